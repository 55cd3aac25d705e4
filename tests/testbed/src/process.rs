//! Children that never outlive the test binary.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A running child, its output in a log file. Killed when dropped, and by the kernel when the
/// test binary ends in whatever way.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both its outputs in `dir/name.log`, which it appends to.
    pub fn start(name: &str, dir: &Path, command: &Command) -> Self {
        let log = dir.join(format!("{name}.log"));
        let open = || File::options().create(true).append(true).open(&log);
        let output = open().unwrap_or_else(|e| panic!("cannot write {}: {e}", log.display()));
        let errors = output.try_clone().expect("a second handle on the log");

        let mut mortal = Command::new("setpriv");
        mortal.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => mortal.env(key, value),
                None => mortal.env_remove(key),
            };
        }
        mortal.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = keeper_spawns(mortal).unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        Self { name: name.to_owned(), child, log }
    }

    pub fn log_path(&self) -> &Path {
        &self.log
    }

    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is still running.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub fn kill9(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn send_sigterm(&self) {
        run(Command::new("kill").arg(self.child.id().to_string()));
    }

    /// Waits for the end; panics, with the log, when it takes longer or when the status is bad.
    pub fn wait_success(&mut self, limit: Duration) {
        let mut status = None;
        wait_until(&format!("{} ends", self.name), limit, || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        if !status.is_some_and(|s| s.success()) {
            panic!("{} ended with {status:?}\n{}", self.name, tail(&self.log()));
        }
    }

    /// Waits until `done` holds; panics, with the log, when the process ends before it does.
    pub fn wait_while_alive(&mut self, what: &str, limit: Duration, done: impl Fn() -> bool) {
        let deadline = Instant::now() + limit;
        while !done() {
            let ended = self.child.try_wait().expect("a child can be waited for");
            if ended.is_some() || Instant::now() > deadline {
                let why = ended.map_or_else(|| format!("{limit:?} passed"), |s| s.to_string());
                panic!("{}: no {what}: {why}\n{}", self.name, tail(&self.log()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Runs a command to its end; panics with its output when it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        panic!("{command:?} failed with {}\n{}\n{}", output.status, tail(&stdout), tail(&stderr));
    }
    stdout
}

pub fn wait_until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < deadline, "waited {limit:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

type Request = (Command, mpsc::Sender<io::Result<Child>>);

/// The kernel's death signal follows the *thread* that spawned, and test threads end with their
/// test: one thread that lives as long as the process spawns for all.
fn keeper_spawns(command: Command) -> io::Result<Child> {
    static KEEPER: OnceLock<Mutex<mpsc::Sender<Request>>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, reply) in requests {
                // Whoever asked may have panicked meanwhile.
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, answer) = mpsc::channel();
    let request = (command, reply);
    keeper.lock().send(request).expect("the keeper lives");
    answer.recv().expect("the keeper answers")
}
