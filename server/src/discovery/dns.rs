//! One question to DNS: the SRV records of a name (RFC 1035, RFC 2782).
//!
//! The resolver of the operating system does not tell SRV records, so its servers are asked by
//! datagram, and over TCP where the answer does not fit into one. Nothing is cached: a member asks
//! once in its life.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const PORT: u16 = 53;
const TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 2;
const MAX_DATAGRAM: usize = 4096;
/// Compression pointers that a name may follow, so that a loop of them ends.
const MAX_POINTERS: usize = 32;
const TYPE_SRV: u16 = 33;
const CLASS_IN: u16 = 1;
const HEADER_BYTES: usize = 12;

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Srv {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) target: String,
}

/// The SRV records of `name`, by priority, then weight. `server` is `address:port`; without it the
/// servers of `/etc/resolv.conf` are asked.
pub(super) async fn lookup_srv(name: &str, server: Option<&str>) -> Result<Vec<Srv>, String> {
    let servers = match server {
        Some(server) => {
            vec![server.parse().map_err(|error| format!("nameserver {server:?}: {error}"))?]
        }
        None => nameservers(),
    };
    let mut failure = format!("lookup {name}: no nameserver");
    for server in servers.iter().cycle().take(servers.len() * ATTEMPTS) {
        match ask(name, *server).await {
            Ok(mut records) => {
                records.sort_by_key(|record| (record.priority, std::cmp::Reverse(record.weight)));
                return Ok(records);
            }
            Err(Refusal::Final(error)) => {
                return Err(format!("lookup {name} on {server}: {error}"));
            }
            Err(Refusal::Silent(error)) => failure = format!("lookup {name} on {server}: {error}"),
        }
    }
    Err(failure)
}

enum Refusal {
    /// An answer that says no.
    Final(String),
    /// No answer: another server, or another attempt, may give one.
    Silent(String),
}

fn nameservers() -> Vec<SocketAddr> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let addresses = text.lines().filter_map(|line| {
        let address = line.trim().strip_prefix("nameserver")?.trim();
        Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, PORT))
    });
    let found: Vec<_> = addresses.collect();
    // As every resolver does without a configuration.
    if found.is_empty() { vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT)] } else { found }
}

async fn ask(name: &str, server: SocketAddr) -> Result<Vec<Srv>, Refusal> {
    let id = rand::random();
    let question = question(id, name).map_err(Refusal::Final)?;
    let silent = |error: io::Error| Refusal::Silent(error.to_string());
    let late = |_| Refusal::Silent("i/o timeout".to_owned());
    let datagram = timeout(TIMEOUT, by_datagram(&question, server)).await.map_err(late)?;
    let mut answer = datagram.map_err(silent)?;
    let truncated = answer.get(2).is_some_and(|flags| flags & 0x02 != 0);
    if truncated {
        let stream = timeout(TIMEOUT, by_stream(&question, server)).await.map_err(late)?;
        answer = stream.map_err(silent)?;
    }
    parse_answer(id, &answer)
}

async fn by_datagram(question: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; MAX_DATAGRAM];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

async fn by_stream(question: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn question(id: u16, name: &str) -> Result<Vec<u8>, String> {
    let mut message = Vec::new();
    // Recursion desired; one question.
    for field in [id, 0x0100, 1, 0, 0, 0] {
        message.extend_from_slice(&field.to_be_bytes());
    }
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length));
        message.push(length.ok_or("no such host: a label is empty or longer than 63 bytes")?);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&TYPE_SRV.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    Ok(message)
}

fn parse_answer(id: u16, message: &[u8]) -> Result<Vec<Srv>, Refusal> {
    let malformed = || Refusal::Silent("malformed answer".to_owned());
    let field = |index: usize| number(message, 2 * index).ok_or_else(malformed);
    let (flags, questions, answers) = (field(1)?, field(2)?, field(3)?);
    if field(0)? != id || flags & 0x8000 == 0 {
        return Err(malformed());
    }
    match flags & 0x000f {
        0 => {}
        3 => return Err(Refusal::Final("no such host".to_owned())),
        code => return Err(Refusal::Silent(format!("server failure (code {code})"))),
    }
    let mut at = HEADER_BYTES;
    for _ in 0..questions {
        at = read_name(message, at).ok_or_else(malformed)?.1 + 4;
    }
    let mut records = Vec::new();
    for _ in 0..answers {
        let (_, after_name) = read_name(message, at).ok_or_else(malformed)?;
        let kind = number(message, after_name).ok_or_else(malformed)?;
        let length = number(message, after_name + 8).ok_or_else(malformed)?;
        let data = after_name + 10;
        if kind == TYPE_SRV {
            records.push(read_srv(message, data).ok_or_else(malformed)?);
        }
        at = data + usize::from(length);
    }
    if records.is_empty() { Err(Refusal::Final("no such host".to_owned())) } else { Ok(records) }
}

fn read_srv(message: &[u8], at: usize) -> Option<Srv> {
    Some(Srv {
        priority: number(message, at)?,
        weight: number(message, at + 2)?,
        port: number(message, at + 4)?,
        target: read_name(message, at + 6)?.0,
    })
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

/// The name at `at`, and where what follows it begins.
fn read_name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut end = None;
    let mut pointers = 0;
    loop {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => return Some((name, end.unwrap_or(at + 1))),
            0xc0.. => {
                pointers += 1;
                if pointers > MAX_POINTERS {
                    return None;
                }
                end = end.or(Some(at + 2));
                at = usize::from(number(message, at)? & 0x3fff);
            }
            64..0xc0 => return None,
            _ => {
                let label = message.get(at + 1..at + 1 + length)?;
                name.push_str(&String::from_utf8_lossy(label));
                name.push('.');
                at += 1 + length;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with one record, whose owner is a pointer to the question's name.
    fn answer(question: &[u8], target: &[u8]) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2] |= 0x80;
        message[7] = 1;
        message.extend_from_slice(&[0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60]);
        message.extend_from_slice(&(6 + target.len() as u16).to_be_bytes());
        message.extend_from_slice(&[0, 1, 0, 2, 0x09, 0x4c]);
        message.extend_from_slice(target);
        message
    }

    #[test]
    fn records_are_read() {
        let question = question(7, "_etcd-server._tcp.example.com").unwrap();
        // "infra0" and a pointer to "example.com" in the question.
        let mut target = b"\x06infra0".to_vec();
        let example = question.windows(8).position(|part| part == b"\x07example").unwrap();
        target.extend_from_slice(&(0xc000 | example as u16).to_be_bytes());
        let records = parse_answer(7, &answer(&question, &target)).ok().unwrap();
        let expected =
            Srv { priority: 1, weight: 2, port: 2380, target: "infra0.example.com.".to_owned() };
        assert_eq!(records, [expected]);
    }

    #[test]
    fn bad_answers_end_without_a_panic() {
        let question = question(7, "a.b").unwrap();
        let whole = answer(&question, b"\x01c\x00");
        for length in 0..whole.len() {
            assert!(parse_answer(7, &whole[..length]).is_err(), "{length}");
        }
        // A name that points to itself.
        let looped = answer(&question, &[0xc0, (question.len() + 18) as u8]);
        assert!(parse_answer(7, &looped).is_err());
        assert!(matches!(parse_answer(8, &whole), Err(Refusal::Silent(_))));
        let mut missing = whole.clone();
        missing[3] |= 3;
        assert!(matches!(parse_answer(7, &missing), Err(Refusal::Final(_))));
        assert!(super::question(1, "a..b").is_err());
    }
}
