//! A proxy before a Redis Cluster that follows redirections, as Envoy and managed services do: its
//! clients see one server.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

/// Starts a proxy that asks the node at this port first; returns the proxy's port. It ends with the
/// test binary.
///
/// # Panics
///
/// Panics when no port is free.
pub fn start(node: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A client that hangs up ends its thread with an error.
            std::thread::spawn(move || serve(client, node).is_ok());
        }
    });
    port
}

struct Connection {
    port: u16,
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Self { port, stream: BufReader::new(stream) })
    }

    fn call(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        self.stream.get_mut().write_all(request)?;
        read_value(&mut self.stream)
    }
}

fn serve(client: TcpStream, node: u16) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut replies = client.try_clone()?;
    let mut requests = BufReader::new(client);
    let mut nodes = vec![Connection::open(node)?];
    loop {
        let request = read_value(&mut requests)?;
        let mut reply = nodes[0].call(&request)?;
        // One redirection by MOVED, then one by ASK.
        for _ in 0..2 {
            let Some((is_ask, port)) = redirection(&reply) else { break };
            let known = nodes.iter().position(|node| node.port == port);
            let index = match known {
                Some(index) => index,
                None => {
                    nodes.push(Connection::open(port)?);
                    nodes.len() - 1
                }
            };
            if is_ask {
                nodes[index].call(b"*1\r\n$6\r\nASKING\r\n")?;
            }
            reply = nodes[index].call(&request)?;
        }
        replies.write_all(&reply)?;
    }
}

/// Returns whether a reply is ASK, and the port that it names; `None` if it is neither ASK nor
/// MOVED.
fn redirection(reply: &[u8]) -> Option<(bool, u16)> {
    let text = std::str::from_utf8(reply).ok()?;
    let is_ask = text.starts_with("-ASK ");
    if !is_ask && !text.starts_with("-MOVED ") {
        return None;
    }
    Some((is_ask, text.trim_end().rsplit_once(':')?.1.parse().ok()?))
}

/// Reads one value of the protocol RESP2.
fn read_value(from: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if from.read_until(b'\n', &mut bytes)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let length: i64 = match bytes[0] {
        b'*' | b'$' => {
            let text = std::str::from_utf8(&bytes[1..]).unwrap_or_default().trim_end();
            text.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?
        }
        _ => return Ok(bytes),
    };
    if length < 0 {
        return Ok(bytes);
    }
    if bytes[0] == b'*' {
        for _ in 0..length {
            bytes.extend(read_value(from)?);
        }
    } else {
        let mut body = vec![0; usize::try_from(length).unwrap_or(0) + 2];
        from.read_exact(&mut body)?;
        bytes.extend(body);
    }
    Ok(bytes)
}
