//! What clients send and what must come back: the kinds of a mix as scripts of steps.

use super::template::{Field, Template, Text, read_digits};

/// Room in a reply for everything but known content, in bytes.
const REPLY_ROOM_BYTES: usize = 1024 * 1024;

/// The same where the content is not known: the longest that a service may be asked for.
const ANY_REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A RESULT around its content.
const RESULT_BYTES: usize = 512;

/// What a client does, from its first request to the last reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One request without a session.
    Stateless,
    /// CONNECT, requests, DISCONNECT.
    Stateful,
    /// One request with many RESULTs.
    Streamed,
    /// One request with a large RESULT.
    Large,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Stateless, Self::Stateful, Self::Streamed, Self::Large];

    /// As in `--mix`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stateless => "stateless",
            Self::Stateful => "stateful",
            Self::Streamed => "streamed",
            Self::Large => "large",
        }
    }
}

/// What the RESULTs of a request must hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Anything, in any number of RESULTs.
    Any,
    /// One RESULT with the sum of the request's own two numbers.
    Sum,
    /// One RESULT with this number.
    Number(f64),
    /// So many RESULTs: 1, 2, 3 and so on.
    Counted(u32),
    /// One string of so many bytes, in one RESULT or in chunks (206, 204).
    Length(usize),
}

/// What must come back for a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Expects {
    /// A STATUS of 200.
    Connected,
    /// RESULTs, then a STATUS of 205.
    Results(Content),
    /// The request itself: the server is a bare echo.
    Echo,
}

/// One request and its reply.
#[derive(Debug, Clone)]
pub struct Step {
    /// The request.
    pub template: Template,
    /// The reply.
    pub expects: Expects,
}

impl Step {
    /// The most that is expected of content in one message.
    fn reply_bytes_max(&self) -> usize {
        match &self.expects {
            Expects::Connected => 0,
            Expects::Echo => self.template.frame_bytes(),
            Expects::Results(Content::Any) => ANY_REPLY_BYTES_MAX,
            Expects::Results(Content::Sum | Content::Number(_)) => RESULT_BYTES,
            Expects::Results(Content::Counted(results)) => *results as usize * RESULT_BYTES,
            // Chunks carry their quotes and escapes once more.
            Expects::Results(Content::Length(bytes)) => 2 * bytes,
        }
    }
}

/// The steps of one kind.
#[derive(Debug, Clone)]
pub struct Script {
    /// What it is called in `--mix`.
    pub kind: Kind,
    /// Its share of the mix.
    pub weight: u32,
    /// Service and method, for people.
    pub call: String,
    /// One after the other; at least one.
    pub steps: Vec<Step>,
    /// What is sent behind the last reply, which has no answer: DISCONNECT.
    pub farewell: Option<Template>,
}

/// A call and what it is known to return.
#[derive(Debug, Clone)]
pub struct Call {
    /// Service.
    pub service: String,
    /// Method.
    pub method: String,
    /// JSON array; `None`: two numbers that tell client and request.
    pub params: Option<String>,
    /// What its RESULTs must hold.
    pub content: Content,
    /// Whether a string may be appended to the params to make the frame larger.
    pub padded: bool,
}

/// How the plan is made.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// Of the run: a reply to another run's request is told by it.
    pub tag: String,
    /// Of every frame.
    pub mask: [u8; 4],
    /// Kinds with their weights.
    pub mix: Vec<(Kind, u32)>,
    /// The stateless call, which sessions make too.
    pub call: Call,
    /// Requests between CONNECT and DISCONNECT.
    pub stateful_requests: u32,
    /// RESULTs of a streamed call.
    pub streamed_results: u32,
    /// Bytes of a large reply.
    pub large_bytes: usize,
    /// Bytes that a padded frame has.
    pub frame_bytes: usize,
    /// Whether the server is a bare echo.
    pub echo: bool,
}

/// Everything that clients do.
#[derive(Debug)]
pub struct Plan {
    /// Of the run.
    pub tag: String,
    /// The kinds of the mix.
    pub scripts: Vec<Script>,
    /// Sum of their weights.
    pub weights: u32,
    /// Of every frame.
    pub mask: [u8; 4],
    /// Whether the server is a bare echo.
    pub echo: bool,
    /// The longest message that the server may send.
    pub reply_bytes_max: usize,
}

impl Plan {
    /// Builds every frame.
    pub fn new(options: &PlanOptions) -> Self {
        // An echo gives back what it gets, so only a request that is one message can be told by its reply.
        let mix = if options.echo { &[(Kind::Stateless, 1)][..] } else { &options.mix };
        let scripts: Vec<Script> = mix.iter().map(|&(kind, weight)| script(options, kind, weight)).collect();
        let weights = scripts.iter().map(|script| script.weight).sum();
        let steps = scripts.iter().flat_map(|script| &script.steps);
        let reply_bytes_max = steps.map(Step::reply_bytes_max).max().unwrap_or(0) + REPLY_ROOM_BYTES;
        Self { tag: options.tag.clone(), scripts, weights, mask: options.mask, echo: options.echo, reply_bytes_max }
    }

    /// Requests of a script, in the mean over the mix.
    pub fn steps_mean(&self) -> f64 {
        let steps = |script: &Script| f64::from(script.weight) * script.steps.len() as f64;
        self.scripts.iter().map(steps).sum::<f64>() / f64::from(self.weights)
    }

    /// The script at this point of the weights laid end to end.
    pub fn pick(&self, mut point: u32) -> usize {
        for (index, script) in self.scripts.iter().enumerate() {
            if point < script.weight {
                return index;
            }
            point -= script.weight;
        }
        0
    }
}

fn script(options: &PlanOptions, kind: Kind, weight: u32) -> Script {
    let demo = |method: &str, params: String, content| Call {
        service: "opensrf.demo".to_owned(),
        method: format!("opensrf.demo.{method}"),
        params: Some(params),
        content,
        padded: options.call.padded,
    };
    let call = match kind {
        Kind::Stateless | Kind::Stateful => options.call.clone(),
        Kind::Streamed => {
            demo("count", format!("[{},0]", options.streamed_results), Content::Counted(options.streamed_results))
        }
        Kind::Large => demo("big", format!("[{}]", options.large_bytes), Content::Length(options.large_bytes)),
    };
    let request = Step {
        template: request(options, &call),
        expects: if options.echo { Expects::Echo } else { Expects::Results(call.content.clone()) },
    };
    let name = format!("{} {}", call.service, call.method);
    if kind != Kind::Stateful {
        return Script { kind, weight, call: name, steps: vec![request], farewell: None };
    }
    let bare = |kind: &str| {
        let mut text = head(options, &call.service, kind);
        text.push("}}]}");
        Template::new(text, options.mask)
    };
    let mut steps = vec![Step { template: bare("CONNECT"), expects: Expects::Connected }];
    steps.extend(std::iter::repeat_n(request, options.stateful_requests as usize));
    Script { kind, weight, call: name, steps, farewell: Some(bare("DISCONNECT")) }
}

/// The envelope up to where a payload would follow, spelled as Evergreen's browser client spells it.
fn head(options: &PlanOptions, service: &str, kind: &str) -> Text {
    let mut text = Text::default();
    text.push("{\"service\":").push(&quoted(service));
    text.push(",\"thread\":\"").push(&options.tag).push(".").field(Field::Client).push(".").field(Field::Exchange);
    text.push("\",\"osrf_msg\":[{\"__c\":\"osrfMessage\",\"__p\":{\"threadTrace\":").field(Field::Trace);
    text.push(",\"locale\":\"en-US\",\"tz\":\"America/New_York\",\"api_level\":1,\"type\":").push(&quoted(kind));
    text
}

fn request(options: &PlanOptions, call: &Call) -> Template {
    let build = |padding: Option<usize>| {
        let mut text = head(options, &call.service, "REQUEST");
        text.push(",\"payload\":{\"__c\":\"osrfMethod\",\"__p\":{\"method\":").push(&quoted(&call.method));
        text.push(",\"params\":[");
        let empty = match &call.params {
            None => {
                text.field(Field::Left).push(",").field(Field::Right);
                false
            }
            Some(params) => {
                let inside = inside(params);
                text.push(inside);
                inside.is_empty()
            }
        };
        if let Some(padding) = padding {
            text.push(if empty { "\"" } else { ",\"" }).push(&"x".repeat(padding)).push("\"");
        }
        text.push("]}}}}]}");
        text
    };
    let mut text = build(None);
    if call.padded && text.frame_bytes() < options.frame_bytes {
        // The header may grow with the text: then the second try fits.
        let room = options.frame_bytes.saturating_sub(build(Some(0)).frame_bytes());
        text = build(Some(room));
        let over = text.frame_bytes().saturating_sub(options.frame_bytes);
        if over > 0 {
            text = build(Some(room.saturating_sub(over)));
        }
    }
    Template::new(text, options.mask)
}

/// What stands between the brackets of a JSON array.
fn inside(params: &str) -> &str {
    let trimmed = params.trim();
    trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(trimmed).trim()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What is in a thread of this run: client and exchange.
pub fn read_thread(tag: &str, thread: &[u8]) -> Option<(u32, u32)> {
    let rest = thread.strip_prefix(tag.as_bytes())?.strip_prefix(b".")?;
    let (client, rest) = rest.split_at_checked(6)?;
    let number = |digits| u32::try_from(read_digits(digits)?).ok();
    Some((number(client)?, number(rest.strip_prefix(b".")?)?))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A plan of one kind, for tests.
    pub fn options(kind: Kind) -> PlanOptions {
        PlanOptions {
            tag: "load.test".to_owned(),
            mask: [0; 4],
            mix: vec![(kind, 1)],
            call: Call {
                service: "opensrf.math".to_owned(),
                method: "add".to_owned(),
                params: None,
                content: Content::Sum,
                padded: true,
            },
            stateful_requests: 2,
            streamed_results: 3,
            large_bytes: 10,
            frame_bytes: 400,
            echo: false,
        }
    }

    #[test]
    fn frames_have_the_size_that_was_asked_for_and_hold_json() {
        for bytes in [400, 1_000, 65_545, 70_000] {
            for kind in Kind::ALL {
                let plan = Plan::new(&PlanOptions { frame_bytes: bytes, ..options(kind) });
                let step = plan.scripts[0].steps.last().expect("a step");
                let got = step.template.frame_bytes();
                // Between 65,545 and 65,549 no frame exists: the longer length costs six bytes.
                assert!(got.abs_diff(bytes) <= 6, "{kind:?}: {got} for {bytes}");
                let mut out = Vec::new();
                let numbers = crate::template::Numbers { client: 1, exchange: 2, request: 3 };
                step.template.write(&mut out, numbers);
                let text = out.iter().position(|byte| *byte == b'{').expect("a brace");
                serde_json::from_slice::<serde_json::Value>(&out[text..]).expect("JSON");
            }
        }
    }

    #[test]
    fn ones_own_params_are_sent_as_they_are() {
        for (params, sent) in
            [("[1, 2]", "\"params\":[1, 2]}"), ("[]", "\"params\":[]}"), (" [\"a\"] ", "\"params\":[\"a\"]}")]
        {
            let mut options = options(Kind::Stateless);
            options.call.params = Some(params.to_owned());
            options.call.padded = false;
            let mut out = Vec::new();
            let numbers = crate::template::Numbers { client: 1, exchange: 2, request: 3 };
            Plan::new(&options).scripts[0].steps[0].template.write(&mut out, numbers);
            assert!(String::from_utf8_lossy(&out).contains(sent), "{params}");
        }
    }

    #[test]
    fn a_reply_may_be_as_long_as_its_content_with_room_and_no_longer() {
        let of = |kind| Plan::new(&PlanOptions { large_bytes: 5_000_000, ..options(kind) }).reply_bytes_max;
        assert!(of(Kind::Stateless) < 2_000_000);
        assert!((10_000_000..12_000_000).contains(&of(Kind::Large)));
        let echo = PlanOptions { echo: true, frame_bytes: 3_000_000, ..options(Kind::Stateless) };
        assert!((3_000_000..5_000_000).contains(&Plan::new(&echo).reply_bytes_max));
    }

    #[test]
    fn the_mix_is_picked_by_weight() {
        let mut options = options(Kind::Stateless);
        options.mix = vec![(Kind::Stateless, 3), (Kind::Large, 1)];
        let plan = Plan::new(&options);
        assert_eq!([0, 1, 2, 3].map(|point| plan.pick(point)), [0, 0, 0, 1]);
        options.mix = vec![(Kind::Stateless, 1), (Kind::Stateful, 3)];
        assert!((Plan::new(&options).steps_mean() - 2.5).abs() < 1e-9, "1, and thrice CONNECT with two requests");
    }

    #[test]
    fn a_thread_of_another_run_is_nobodys() {
        assert_eq!(read_thread("load.test", b"load.test.000007.0000000009"), Some((7, 9)));
        for other in [&b"load.other.000007.0000000009"[..], b"load.test.7.9", b"load.test.000007", b""] {
            assert_eq!(read_thread("load.test", other), None);
        }
    }
}
