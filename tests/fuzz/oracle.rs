//! What must hold of any message body, whoever made it up. The fuzzer and the property tests ask the same, so it stands
//! here once.

use std::{
    fmt::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use shared::{
    failure::Failure,
    name::Named,
    settlement::event::{ErrorCode, Event, EventType},
};

/// Every type that a function may have as its own.
pub(crate) const TYPES: [EventType; EventType::ALL.len()] = match EventType::ALL.first_chunk() {
    Some(all) => *all,
    None => [EventType::ReservationExpired; EventType::ALL.len()],
};

/// The longest text that an error quotes has 200 characters, of which each may be escaped as `\u{10ffff}`.
const LONGEST_MESSAGE: usize = 200 * 10 + 200;

/// 1970, November 2026 and the end of the year 9999. The real time would make two runs differ.
const MOMENTS: [u64; 3] = [0, 1_795_000_000, 253_402_300_799];

/// Reads a body as each function would, and returns the event if one accepts it.
///
/// # Panics
/// When something does not hold.
pub(crate) fn read(body: &str) -> Option<Event> {
    let json = Json::read(body);
    let results = TYPES.map(|own| Event::parse(own, body));
    if let Some(json) = &json {
        for (how, text) in [("in another spelling", respelled(json)), ("with odd fields beside", with_odd_fields(json))]
        {
            let again = TYPES.map(|own| Event::parse(own, &text));
            // An error's text may tell of the spelling, its code may not.
            assert_eq!(again.each_ref().map(verdict), results.each_ref().map(verdict), "the same {how}: {text}");
        }
    }
    let refused = |code| move |result: &Result<Event, Failure>| is_refused(result, code);
    let owners = results.iter().filter(|result| !is_refused(result, ErrorCode::UnknownType)).count();
    assert!(
        owners <= 1 || results.iter().all(refused(ErrorCode::MalformedBody)),
        "an event is one function's own, or nobody's: {results:?}"
    );
    let mut accepted = None;
    for (own, result) in TYPES.into_iter().zip(results) {
        match result {
            Err(failure) => check_refusal(json.as_ref(), &failure),
            Ok(event) => {
                assert_eq!(event.event_type, own);
                let json = json.as_ref().unwrap_or_else(|| panic!("{body:?} is not JSON, and was read as {event:?}"));
                check_event(&event);
                check_source(json, &event);
                accepted = Some(event);
            }
        }
    }
    accepted
}

/// What a function makes of a body: the event, or the code that it is refused under.
fn verdict(result: &Result<Event, Failure>) -> Result<&Event, &'static str> {
    match result {
        Ok(event) => Ok(event),
        Err(Failure::Permanent { code, .. }) => Err(code),
        Err(Failure::Transient { .. } | Failure::Early { .. }) => Err("transient"),
    }
}

fn is_refused(result: &Result<Event, Failure>, expected: ErrorCode) -> bool {
    matches!(result, Err(Failure::Permanent { code, .. }) if *code == expected.name())
}

/// A body is refused for good, under a documented code, and with a text that fits into a line of the log.
fn check_refusal(json: Option<&Json>, failure: &Failure) {
    let Failure::Permanent { code, message } = failure else { panic!("a body never changes: {failure:?}") };
    match json {
        Some(json @ Json::Object(_)) if *code == ErrorCode::MalformedBody.name() => {
            assert!(message.contains("ambiguous"), "{failure:?}");
            assert!(!json.is_unambiguous(), "{failure:?} of {json:?}");
        }
        Some(Json::Object(_)) => {
            assert!([ErrorCode::UnknownType, ErrorCode::InvalidField].map(Named::name).contains(code), "{failure:?}")
        }
        Some(_) | None => assert_eq!(*code, ErrorCode::MalformedBody.name(), "{failure:?}"),
    }
    assert!(!message.trim().is_empty(), "{failure:?}");
    assert!(message.chars().count() <= LONGEST_MESSAGE, "{failure:?}");
    assert!(!message.contains(char::is_control), "{failure:?}");
}

/// What was read stands in the body, wherever its name stands there.
fn check_source(json: &Json, event: &Event) {
    let says =
        |name: &str, id: &str| json.values_of(name).any(|value| *value == Json::String(id.encode_utf16().collect()));
    let snake_or_camel = |snake, camel, id: &str| says(snake, id) || says(camel, id);
    assert!(snake_or_camel("reservation_id", "reservationId", &event.reservation_id), "{event:?} of {json:?}");
    // Readers do not agree on which of two values counts, so there is only one.
    let null = Json::Word("null".to_owned());
    let place = ["detail", "payload"].into_iter().find_map(|place| {
        json.fields().iter().find(|(name, value)| *value != null && name.iter().copied().eq(place.encode_utf16()))
    });
    let id: Vec<u16> = event.reservation_id.encode_utf16().collect();
    for (name, value) in place.map_or(&[][..], |(_, place)| place.fields()) {
        let is_id = ["reservation_id", "reservationId"].iter().any(|id| name.iter().copied().eq(id.encode_utf16()));
        assert!(!is_id || *value == null || *value == Json::String(id.clone()), "{event:?} of {json:?}");
    }
    if let Some(id) = &event.holding.show_id {
        assert!(snake_or_camel("event_id", "eventId", id), "{event:?} of {json:?}");
    }
    if let Some(payment) = &event.payment {
        let id = &payment.intent_id;
        let by_intent = snake_or_camel("payment_intent_id", "paymentIntentId", id);
        assert!(by_intent || snake_or_camel("payment_id", "paymentId", id), "{event:?} of {json:?}");
    }
}

/// An accepted event can be used for everything that an event is used for.
///
/// # Panics
/// When it can't.
pub(crate) fn check_event(event: &Event) {
    let payment = event.payment.as_ref();
    let amount = payment.and_then(|payment| payment.amount);
    assert_eq!(payment.is_some(), event.event_type.is_of_a_payment(), "{event:?}");
    assert!(amount.is_some() || event.event_type != EventType::PaymentApproved, "{event:?}");

    let intent_id = payment.map(|payment| &payment.intent_id);
    for id in [Some(&event.reservation_id), event.holding.show_id.as_ref(), intent_id].into_iter().flatten() {
        check_id(id);
    }

    let seats = event.holding.seat_ids.len();
    assert!(
        event.holding.quantity.is_none_or(|quantity| quantity > 0 && (seats == 0 || quantity as usize == seats)),
        "{event:?}"
    );

    // Whatever stands in the ids, the key can be taken apart into them again, so two identities never share one.
    let key = event.key();
    let parts: Vec<String> = key.as_str().split('#').map(|part| part.replace("%23", "#").replace("%25", "%")).collect();
    let identity = [event.event_type.name(), &event.reservation_id].into_iter().chain(intent_id.map(String::as_str));
    assert!(parts.iter().eq(identity), "{key} of {event:?}");
    assert_eq!(event.key(), key);

    let is_approval = event.event_type == EventType::PaymentApproved;
    assert_eq!(event.fingerprint().is_empty(), !is_approval, "{event:?}");

    let payment_text = payment.and_then(|payment| payment.currency.as_ref());
    for text in [payment_text, event.holding.user_id.as_ref(), event.trace_id.as_ref()].into_iter().flatten() {
        assert!((1..=256).contains(&text.chars().count()) && !text.trim().is_empty(), "{event:?}");
    }
    if let Some(trace_id) = &event.trace_id {
        assert!(trace_id.len() <= 64, "{trace_id:?}");
        assert!(trace_id.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)), "{trace_id:?}");
    }
    assert!(event.expires_at.is_none() || event.event_type == EventType::ReservationExpired, "{event:?}");

    for moment in MOMENTS {
        check_wait(event, UNIX_EPOCH + Duration::from_secs(moment));
    }
}

/// An id goes into a URL as one segment of its path, and into a log line. tests/properties/parsing.rs sends such ids
/// through the client and looks at what arrives.
fn check_id(id: &str) {
    assert!((1..=256).contains(&id.len()), "{id:?}");
    assert!(id.bytes().all(|byte| byte.is_ascii_graphic()), "{id:?}");
    assert!(!matches!(id, "." | ".."), "{id:?}");
}

/// Only an expiry waits, and exactly until it is due.
fn check_wait(event: &Event, now: SystemTime) {
    let due = event.expires_at.filter(|due| event.event_type == EventType::ReservationExpired && *due > now);
    assert_eq!(event.early_by(now).map(|wait| now + wait), due, "{event:?}");
}

/// A second reading of JSON, which shares nothing with the first: no field is lost, not one that comes twice, not half a
/// surrogate pair, and a number is its text.
#[derive(Clone, Debug, PartialEq)]
enum Json {
    Word(String),
    String(Vec<u16>),
    Array(Vec<Json>),
    Object(Vec<(Vec<u16>, Json)>),
}

/// What is left of a text that is read from the front.
struct Rest<'a>(&'a str);

impl Json {
    /// The one value of a text, behind a byte order mark or none.
    fn read(text: &str) -> Option<Self> {
        let mut rest = Rest(text.strip_prefix('\u{feff}').unwrap_or(text));
        let json = rest.value()?;
        rest.skip_blanks();
        rest.0.is_empty().then_some(json)
    }

    fn fields(&self) -> &[(Vec<u16>, Json)] {
        match self {
            Self::Object(fields) => fields,
            Self::Word(_) | Self::String(_) | Self::Array(_) => &[],
        }
    }

    /// The values under a name, at the top level and in the two places that hold an event's fields.
    fn values_of(&self, name: &str) -> impl Iterator<Item = &Json> {
        let name: Vec<u16> = name.encode_utf16().collect();
        let inner = ["detail", "payload"].map(|place| place.encode_utf16().collect::<Vec<u16>>());
        let places = self.fields().iter().filter(move |(found, _)| inner.contains(found)).map(|(_, value)| value);
        std::iter::once(self)
            .chain(places)
            .flat_map(Self::fields)
            .filter(move |(found, _)| *found == name)
            .map(|(_, value)| value)
    }

    /// Whether no name could be read in two ways: none comes twice, under neither of its spellings and in no two places.
    fn is_unambiguous(&self) -> bool {
        const FAMILIES: [&[&str]; 10] = [
            &["detail-type"],
            &["type"],
            &["detail"],
            &["payload"],
            &["status"],
            &["reservation_id", "reservationId"],
            &["payment_intent_id", "paymentIntentId", "payment_id", "paymentId"],
            &["event_id", "eventId", "seat_ids", "seatIds"],
            &["qty", "quantity", "amount"],
            &["expires_at", "expiresAt"],
        ];
        FAMILIES.iter().all(|names| names.iter().map(|name| self.values_of(name).count()).sum::<usize>() <= 1)
    }
}

impl Rest<'_> {
    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn takes(&mut self, start: &str) -> bool {
        let rest = self.0.strip_prefix(start);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn value(&mut self) -> Option<Json> {
        self.skip_blanks();
        if self.takes("[") {
            return self.list("]", Self::value).map(Json::Array);
        }
        if self.takes("{") {
            let field = |rest: &mut Self| {
                rest.skip_blanks();
                let name = rest.takes("\"").then(|| rest.string())??;
                rest.skip_blanks();
                rest.takes(":").then(|| rest.value())?.map(|value| (name, value))
            };
            return self.list("}", field).map(Json::Object);
        }
        if self.takes("\"") {
            return self.string().map(Json::String);
        }
        let end = self.0.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        (matches!(word, "null" | "true" | "false") || is_number(word)).then(|| Json::Word(word.to_owned()))
    }

    fn list<T>(&mut self, end: &str, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut items = Vec::new();
        self.skip_blanks();
        if self.takes(end) {
            return Some(items);
        }
        loop {
            items.push(item(self)?);
            self.skip_blanks();
            if self.takes(end) {
                return Some(items);
            }
            self.takes(",").then_some(())?;
        }
    }

    /// What stands before the closing quotation mark.
    fn string(&mut self) -> Option<Vec<u16>> {
        let mut units = Vec::new();
        loop {
            let next = self.0.chars().next()?;
            self.0 = &self.0[next.len_utf8()..];
            match next {
                '"' => return Some(units),
                '\\' => units.push(self.escape()?),
                '\0'..='\u{1f}' => return None,
                _ => units.extend_from_slice(next.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn escape(&mut self) -> Option<u16> {
        let escapes = [
            ("\"", '"'),
            ("\\", '\\'),
            ("/", '/'),
            ("b", '\u{8}'),
            ("f", '\u{c}'),
            ("n", '\n'),
            ("r", '\r'),
            ("t", '\t'),
        ];
        if let Some((_, meant)) = escapes.into_iter().find(|(letter, _)| self.takes(letter)) {
            return u16::try_from(meant).ok();
        }
        let digits = self.takes("u").then(|| self.0.get(..4))??;
        self.0 = &self.0[4..];
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
    }
}

fn is_number(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let word = word.strip_prefix('-').unwrap_or(word);
    let (word, exponent) = word.split_once(['e', 'E']).map_or((word, None), |(word, exponent)| (word, Some(exponent)));
    let (whole, fraction) = word.split_once('.').map_or((word, None), |(whole, part)| (whole, Some(part)));
    let exponent = exponent.map(|exponent| exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
    digits(whole) && (whole == "0" || !whole.starts_with('0')) && [fraction, exponent].into_iter().flatten().all(digits)
}

/// The same JSON as another producer's library may write it: the fields from the last to the first, a blank wherever one
/// may stand, and every character outside ASCII escaped.
fn respelled(json: &Json) -> String {
    let mut text = "\u{feff}".to_owned();
    write_value(&mut text, json, 0, "");
    text
}

/// The same JSON with fields that nobody reads, of every kind that could spoil a body, in each object that holds an event.
fn with_odd_fields(json: &Json) -> String {
    let mut text = String::new();
    write_value(&mut text, json, 2, r#""odd" : "\ud83d" , "\udc00" : 1e999 , "odd" : [ { "a" : "\udfff" } ] , "#);
    text
}

/// `odd` goes before the fields of the outermost object and, within as many `levels`, of those that hold an event's fields.
fn write_value(text: &mut String, json: &Json, levels: usize, odd: &str) {
    match json {
        Json::Word(word) => text.push_str(word),
        Json::String(string) => write_string(text, string),
        Json::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { " " } else { " , " });
                write_value(text, item, 0, odd);
            }
            text.push_str(" ]");
        }
        Json::Object(fields) => {
            text.push('{');
            if levels > 0 && !fields.is_empty() {
                text.push_str(odd);
            }
            for (index, (name, value)) in fields.iter().rev().enumerate() {
                text.push_str(if index == 0 { "\n" } else { " ,\n" });
                write_string(text, name);
                text.push_str(" : ");
                // Another object in the place of a text or a number would be read, and its oddities with it.
                let is_read = ["detail", "payload"].iter().any(|place| name.iter().copied().eq(place.encode_utf16()));
                write_value(text, value, if is_read { levels.saturating_sub(1) } else { 0 }, odd);
            }
            text.push_str("\n}");
        }
    }
}

fn write_string(text: &mut String, units: &[u16]) {
    text.push('"');
    for unit in units {
        match u8::try_from(*unit) {
            Ok(byte @ (b' '..=b'~')) if !matches!(byte, b'"' | b'\\') => text.push(char::from(byte)),
            _ => drop(write!(text, "\\u{unit:04x}")),
        }
    }
    text.push('"');
}
