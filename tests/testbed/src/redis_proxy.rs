//! A TCP proxy before Redis that injects faults.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// Handling of the bytes that pass through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwards them.
    Pass,
    /// Forwards requests after a delay.
    Slow(Duration),
    /// Closes every connection at once, old and new.
    Refuse,
    /// Holds requests back; Redis does not receive them.
    HoldRequests,
    /// Forwards requests and holds the responses back.
    HoldResponses,
    /// Forwards requests and closes the connection instead of forwarding a response.
    LoseResponses,
    /// Forwards half of a request, then closes the connection.
    CutRequests,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<(Mode, u64)>,
    changed: Condvar,
}

/// A running proxy. It ends with the test binary.
#[derive(Debug)]
pub struct RedisProxy {
    port: u16,
    shared: Arc<Shared>,
}

impl RedisProxy {
    /// Starts a proxy before the Redis at a port.
    pub fn start(redis: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Mutex::new((Mode::Pass, 0));
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let of_listener = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if of_listener.mode() != Mode::Refuse {
                    forward(&of_listener, client, redis);
                }
            }
        });
        Self { port, shared }
    }

    /// The port at which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the `coordinator` key of a configuration that reaches Redis through the proxy.
    pub fn yaml(&self) -> String {
        format!("coordinator: redis://127.0.0.1:{}/0\n", self.port)
    }

    /// Changes the mode; what is held back continues in the new mode.
    pub fn set(&self, mode: Mode) {
        self.shared.lock().0 = mode;
        self.shared.changed.notify_all();
    }

    /// Returns how many chunks, of requests or responses, have been held back so far.
    pub fn held(&self) -> u64 {
        self.shared.lock().1
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, (Mode, u64)> {
        self.state.lock()
    }

    fn mode(&self) -> Mode {
        self.lock().0
    }

    /// Waits while the mode is `holds`; returns the mode that follows.
    fn pass(&self, holds: Mode) -> Mode {
        let mut state = self.lock();
        if state.0 == holds {
            state.1 += 1;
        }
        while state.0 == holds {
            self.changed.wait(&mut state);
        }
        state.0
    }
}

fn forward(shared: &Arc<Shared>, client: TcpStream, redis: u16) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", redis)) else { return };
    let both = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
    let (Some(requests), Some((to_client, from_server))) = (both(), both()) else { return };
    for stream in [&client, &server] {
        // `Refuse` closes a connection at once, even one without traffic.
        let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
        let _ = stream.set_nodelay(true);
    }
    let of_requests = Arc::clone(shared);
    std::thread::spawn(move || pump(&of_requests, requests.0, requests.1, Mode::HoldRequests));
    let of_responses = Arc::clone(shared);
    std::thread::spawn(move || pump(&of_responses, from_server, to_client, Mode::HoldResponses));
}

/// Copies bytes in one direction until either side ends, then closes both.
fn pump(shared: &Shared, mut from: TcpStream, mut to: TcpStream, holds: Mode) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if shared.mode() == Mode::Refuse {
                    break;
                }
                continue;
            }
            Err(_) => break,
        };
        let passes = match (shared.pass(holds), holds) {
            (Mode::Refuse, _) | (Mode::LoseResponses, Mode::HoldResponses) => 0,
            (Mode::CutRequests, Mode::HoldRequests) => read / 2,
            (Mode::Slow(time), Mode::HoldRequests) => {
                std::thread::sleep(time);
                read
            }
            _ => read,
        };
        if to.write_all(&buffer[..passes]).is_err() || passes < read {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
