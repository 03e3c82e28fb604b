//! The slots of a cluster: the slot of a key, and the holder of each slot.

use std::ops::RangeInclusive;

use redis::Value;

use crate::ledger::redis::settings::ServerAddr;

/// Number of slots of a cluster.
const SLOTS: u16 = 16_384;

/// The holder of a range of slots.
pub(super) type SlotRange = (RangeInclusive<u16>, ServerAddr);

/// The slot of a key: the CRC16 (XMODEM) of the text in its first braces, or of the whole key.
pub(super) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let hashed = tag.map_or(key, |(tag, _)| if tag.is_empty() { key } else { tag });
    crc16(hashed.as_bytes()) % SLOTS
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

/// The parsed reply to CLUSTER SLOTS. A node without an address is the queried one. `None` for any
/// other reply.
pub(super) fn read(answer: &Value, asked: &ServerAddr) -> Option<Vec<SlotRange>> {
    let Value::Array(ranges) = answer else {
        return None;
    };
    ranges.iter().map(|range| read_range(range, asked)).collect()
}

fn read_range(range: &Value, asked: &ServerAddr) -> Option<SlotRange> {
    let Value::Array(parts) = range else {
        return None;
    };
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = parts.as_slice() else {
        return None;
    };
    let [host, Value::Int(port), rest @ ..] = primary.as_slice() else {
        return None;
    };
    let host = match (text(host)?, asked) {
        // The node prefers host names, and does not know its own.
        ("?", _) if ip(rest).is_some() => ip(rest)?.to_owned(),
        ("" | "?", ServerAddr::Tcp(asked, _)) => asked.clone(),
        (host, _) => host.to_owned(),
    };
    let slots = u16::try_from(*first).ok()?..=u16::try_from(*last).ok()?;
    Some((slots, ServerAddr::Tcp(host, u16::try_from(*port).ok()?)))
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(text) => std::str::from_utf8(text).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Nil => Some(""),
        _ => None,
    }
}

/// The address among the metadata of a node, which follow its id.
fn ip(rest: &[Value]) -> Option<&str> {
    let pairs: Vec<(&Value, &Value)> = match rest.get(1)? {
        Value::Array(list) => list.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
        Value::Map(map) => map.iter().map(|(key, value)| (key, value)).collect(),
        _ => return None,
    };
    let (_, ip) = pairs.into_iter().find(|(key, _)| text(key) == Some("ip"))?;
    text(ip).filter(|ip| !ip.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_servers() {
        // The check value of CRC16/XMODEM, and the slots that a server computes.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of("foo"), 12_182);
        assert_eq!(slot_of("eni-gateway:{foo}:v2:epoch"), 12_182);
        assert_eq!(slot_of("{}foo"), crc16(b"{}foo") % SLOTS);
    }

    #[test]
    fn what_a_node_answers_is_read() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let node = |host: Value| {
            Value::Array(vec![host, Value::Int(7001), text("id"), Value::Array(Vec::new())])
        };
        let range = |host| {
            Value::Array(vec![Value::Int(0), Value::Int(5460), node(host), node(text("replica"))])
        };
        let asked = ServerAddr::Tcp("asked".to_owned(), 7000);
        let read = |host| read(&Value::Array(vec![range(host)]), &asked);
        let held = |host: &str| Some(vec![(0..=5460, ServerAddr::Tcp(host.to_owned(), 7001))]);
        assert_eq!(read(text("10.0.0.1")), held("10.0.0.1"));
        assert_eq!(read(text("")), held("asked"));
        assert_eq!(read(text("?")), held("asked"));
        assert_eq!(read(Value::Nil), held("asked"));
        assert_eq!(read(Value::Int(1)), None);
        assert_eq!(super::read(&Value::Okay, &asked), None);
        let named = vec![
            text("?"),
            Value::Int(7001),
            text("id"),
            Value::Array(vec![text("ip"), text("10.0.0.2")]),
        ];
        let range = vec![Value::Int(0), Value::Int(5460), Value::Array(named)];
        let answer = Value::Array(vec![Value::Array(range)]);
        assert_eq!(super::read(&answer, &asked), held("10.0.0.2"));
    }
}
