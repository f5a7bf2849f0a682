//! The messages of a case in words, for the reports.
//!
//! Invariant: what is secret was withheld before it comes here; what a peer chose is text without control characters.

use serde_json::Value;

use lwm2m_server::Packet;

/// A message in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Milliseconds since the first message of the case.
    pub(crate) after: u64,
    /// Whether the device sent it.
    pub(crate) is_from_device: bool,
    /// Type, code and what a request is for: `CON GET /3/0`.
    pub(crate) head: String,
    /// Message id and token.
    pub(crate) ids: String,
    /// Options besides those in the head.
    pub(crate) options: Vec<String>,
    /// The values or the payload, one for each line.
    pub(crate) body: Vec<String>,
}

/// All messages of a case.
pub(crate) fn tell(packets: &[Packet]) -> Vec<Told> {
    let began = packets.first().map_or(0, |packet| packet.at);
    packets.iter().map(|packet| told(packet, began)).collect()
}

/// The messages of a case without the reports (Send) that a device makes by itself, and without their acknowledgements.
pub(crate) fn without_reports(told: Vec<Told>) -> Vec<Told> {
    let is_report = |told: &Told| told.is_from_device && told.head.starts_with("CON POST /dp");
    let reports: Vec<String> =
        told.iter().filter(|told| is_report(told)).map(|told| told.ids.clone()).collect();
    let is_taken =
        |told: &Told| !told.is_from_device && told.head.starts_with("ACK") && reports.contains(&told.ids);
    told.into_iter().filter(|told| !is_report(told) && !is_taken(told)).collect()
}

impl Told {
    /// On one line, for plain text, without its time.
    pub(crate) fn line(&self) -> String {
        let direction = if self.is_from_device { "client → server" } else { "server → client" };
        let options =
            if self.options.is_empty() { String::new() } else { format!(" [{}]", self.options.join(", ")) };
        let body = if self.body.is_empty() { String::new() } else { format!(": {}", self.body.join("; ")) };
        format!("{direction} {}{options}{body}", self.head)
    }
}

fn told(packet: &Packet, began: u64) -> Told {
    let json = lwm2m_server::api::decoded(packet);
    let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let options = json.pointer("/options").and_then(Value::as_array).cloned().unwrap_or_default();
    let named = |option: &Value| {
        let name = option.pointer("/name").and_then(Value::as_str).map(str::to_owned);
        let number = option.pointer("/number").map(Value::to_string).unwrap_or_default();
        let value = option.pointer("/value").and_then(Value::as_str).unwrap_or_default();
        (name.unwrap_or_else(|| format!("option {number}")), value.to_owned())
    };
    let options: Vec<(String, String)> = options.iter().map(named).collect();
    let of = |wanted: &str| {
        let named = options.iter().filter(|(name, _)| name == wanted);
        named.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    let code = text("/code");
    let code = code
        .split_once(' ')
        .map_or(code, |(number, method)| if number.starts_with('0') { method } else { code });
    let mut head = [text("/type"), code].join(" ");
    let path: String = of("Uri-Path").iter().map(|segment| format!("/{segment}")).collect();
    let query = of("Uri-Query").join("&");
    if !path.is_empty() || !query.is_empty() {
        head = format!("{head} {path}{}{query}", if query.is_empty() { "" } else { "?" });
    }
    if let Some(malformed) = json.pointer("/malformed").and_then(Value::as_str) {
        head = format!("no CoAP message: {malformed}");
    }
    let operation = text("/operation");
    if !operation.is_empty() {
        head = format!("{head} ({operation})");
    }
    let rest = options.iter().filter(|(name, _)| !matches!(name.as_str(), "Uri-Path" | "Uri-Query"));
    Told {
        after: packet.at.saturating_sub(began),
        is_from_device: packet.direction == lwm2m_server::Direction::FromDevice,
        head: plain(&head),
        ids: format!(
            "id {}, token {}",
            json.pointer("/id").map(Value::to_string).unwrap_or_default(),
            text("/token")
        ),
        options: rest.map(|(name, value)| plain(&format!("{name}: {value}"))).collect(),
        body: body(&json).iter().map(|line| plain(line)).collect(),
    }
}

fn body(json: &Value) -> Vec<String> {
    if let Some(values) = json.pointer("/values").and_then(Value::as_array) {
        let shown = values.iter().map(|item| {
            let path = item.pointer("/path").and_then(Value::as_str).unwrap_or_default();
            match (item.pointer("/value"), item.pointer("/type").and_then(Value::as_str)) {
                (Some(value), Some(kind)) => format!("{path} = {value} ({kind})"),
                _ => format!("{path} (withheld)"),
            }
        });
        return shown.collect();
    }
    if let Some(paths) = json.pointer("/paths").and_then(Value::as_array) {
        return paths.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    }
    match (json.pointer("/payload"), json.pointer("/withheld")) {
        (Some(Value::String(text)), _) => vec![text.clone()],
        (_, Some(_)) => vec!["payload withheld".to_owned()],
        _ => Vec::new(),
    }
}

/// Text without control characters, and not without end.
pub(crate) fn plain(text: &str) -> String {
    const LONGEST: usize = 2000;
    let mut plain: String = text
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .take(LONGEST)
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        plain.push('…');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_left_out_with_their_acknowledgements_and_nothing_else_is() {
        let told = |is_from_device, head: &str, ids: &str| Told {
            after: 0,
            is_from_device,
            head: head.to_owned(),
            ids: ids.to_owned(),
            options: Vec::new(),
            body: Vec::new(),
        };
        let trace = vec![
            told(false, "CON FETCH (Observe-Composite)", "id 7, token 01"),
            told(true, "ACK 2.05 (Observe-Composite)", "id 7, token 01"),
            told(true, "CON POST /dp (Send)", "id 9, token 02"),
            told(false, "ACK 2.04", "id 9, token 02"),
            told(true, "CON 2.05", "id 9, token 02"),
            told(false, "CON GET /3", "id 9, token 02"),
        ];
        let heads: Vec<String> = without_reports(trace).into_iter().map(|told| told.head).collect();
        assert_eq!(
            heads,
            ["CON FETCH (Observe-Composite)", "ACK 2.05 (Observe-Composite)", "CON 2.05", "CON GET /3"]
        );
    }
}
