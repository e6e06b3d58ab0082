//! What travels: envelopes of browsers, replies of services, frames, and the replies of Redis that carry messages.

/// A client's mask. ASCII that is masked with it is ASCII, so that a frame that was unmasked in place can be unmasked
/// again and again and stays UTF-8: a bench need not restore its input.
const MASK: [u8; 4] = [1, 2, 3, 4];

/// A field-mapper object as `OpenSRF` carries it.
const RECORD: &str =
    r#"{"__c":"bre","__p":["some field",12345,null,"2026-11-22T20:57:00-0500","t","a <b>bold<\/b> word",-7.25,true]}"#;

/// The envelope of a browser that calls a method: one REQUEST of exactly `bytes` bytes, at least 450.
pub fn request(bytes: usize) -> String {
    let envelope = |params: &str| {
        format!(
            r#"{{"service":"open-ils.search","thread":"0.48137501846315281732046523","log_xid":"1795334569294820","osrf_msg":[{{"__c":"osrfMessage","__p":{{"threadTrace":0,"locale":"en-US","tz":"America/New_York","type":"REQUEST","payload":{{"__c":"osrfMethod","__p":{{"method":"open-ils.search.biblio.record.mods_slim.retrieve","params":[{params},123,{{"limit":10,"offset":0}}]}}}},"api_level":1}}}}],"api_ver":1}}"#
        )
    };
    let records = format!("{RECORD},").repeat(bytes.saturating_sub(450) / (RECORD.len() + 1));
    let padding = bytes.checked_sub(envelope(&format!("{records}\"\"")).len()).expect("room for the envelope itself");
    envelope(&format!("{records}\"{}\"", "x".repeat(padding)))
}

/// What a reply carries.
#[derive(Clone, Copy, Debug)]
pub enum Content {
    /// Field-mapper objects: many short tokens.
    Records,
    /// One string without an escape.
    OneString,
    /// One string of XML, a record's MARC for one: an escape every few bytes.
    EscapedXml,
}

/// A reply of a service for the bus `thread`: a RESULT of about `bytes` bytes, and the STATUS that ends the request.
pub fn reply(thread: &str, content: Content, bytes: usize) -> String {
    let fill = |text: &str| text.repeat(bytes.saturating_sub(540) / text.len());
    let content = match content {
        Content::Records => format!("[{}{}null]", fill(&format!("{RECORD},")), "1,2,3,4,5,6,7,8,9,"),
        Content::OneString => format!("\"{}\"", fill("lorem ipsum ")),
        Content::EscapedXml => format!("\"{}\"", fill("<tag name=\\\"a\\\">text of a record</tag>\\n")),
    };
    format!(
        r#"{{"to":"opensrf:client:gateway:public.localhost:vm:29482:e725a801","from":"opensrf:client:opensrf:private.localhost:vm:29172:1593265","thread":"{thread}","osrf_xid":"1795334569294820","body":[{{"__c":"osrfMessage","__p":{{"threadTrace":0,"locale":"en-US","type":"RESULT","payload":{{"__c":"osrfResult","__p":{{"status":"OK","statusCode":200,"content":{content}}}}}}}}},{{"__c":"osrfMessage","__p":{{"threadTrace":0,"type":"STATUS","payload":{{"__c":"osrfConnectStatus","__p":{{"status":"Request Complete","statusCode":205}}}}}}}}]}}"#
    )
}

/// A client's text frame.
pub fn frame(text: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        medium @ 126..=0xffff => {
            frame.push(0xfe);
            frame.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            frame.push(0xff);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(text.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Redis' reply to an LPOP that found `count` messages of `bytes` bytes.
pub fn pop(count: usize, bytes: usize) -> Vec<u8> {
    let message = reply("1.2.3:0.4711", Content::OneString, bytes);
    let message = format!("{message:bytes$}");
    let mut pop = Vec::new();
    evergate_proto::redis::resp::write_array(&mut pop, count);
    for _ in 0..count {
        evergate_proto::redis::resp::write_bulk(&mut pop, &message.as_bytes()[..bytes]);
    }
    pop
}
