//! Child processes that never outlive this process.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A running child with its output in a log file. It is killed when dropped, and by the kernel when
/// this process ends in any way.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; standard output and standard error are appended to `dir/name.log`.
    ///
    /// # Panics
    ///
    /// Panics when the log cannot be written or the command cannot be started.
    pub fn start(name: &str, dir: &Path, command: &Command) -> Self {
        let log = dir.join(format!("{name}.log"));
        let open = || File::options().create(true).append(true).open(&log);
        let output = open().unwrap_or_else(|e| panic!("cannot write {}: {e}", log.display()));
        let errors = output.try_clone().expect("a second handle on the log");

        let mut child_command = Command::new("setpriv");
        child_command
            .args(["--pdeathsig", "KILL"])
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => child_command.env(key, value),
                None => child_command.env_remove(key),
            };
        }
        child_command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = spawn_from_parent_thread(child_command)
            .unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        Self { name: name.to_owned(), child, log }
    }

    /// The file of its output.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Its output so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns whether it is still running.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill9(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM.
    pub fn send_sigterm(&self) {
        self.send_signal("TERM");
    }

    /// Sends a signal, by its name without `SIG`.
    pub fn send_signal(&self, signal: &str) {
        run(Command::new("kill").args(["-s", signal]).arg(self.child.id().to_string()));
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// Panics with the end of the log when that takes longer than `limit` or the status is not 0.
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

    /// Waits until `done` holds; `what` names it in the message.
    ///
    /// # Panics
    ///
    /// Panics with the end of the log when the process ends before, or after `limit`.
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

/// Runs a command to its end and returns its standard output.
///
/// # Panics
///
/// Panics with its output when it fails.
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

/// Polls until `done` holds; `what` names it in the message.
///
/// # Panics
///
/// Panics after `limit`.
pub fn wait_until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < deadline, "after {limit:?}, not yet: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

type Request = (Command, mpsc::Sender<io::Result<Child>>);

/// Spawns a command from a thread that lives as long as the process: the kernel sends the death
/// signal when the *thread* that spawned ends, and the thread of a test ends with its test.
fn spawn_from_parent_thread(command: Command) -> io::Result<Child> {
    static PARENT: OnceLock<Mutex<mpsc::Sender<Request>>> = OnceLock::new();
    let parent = PARENT.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, reply) in requests {
                // The caller may have panicked meanwhile.
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, child) = mpsc::channel();
    let request = (command, reply);
    parent.lock().send(request).expect("the thread runs");
    child.recv().expect("the thread replies")
}
