//! The event that Lambda makes of records of Kafka topics, read record by record: what is odd about one record is its own
//! matter and never fails the others. <https://docs.aws.amazon.com/lambda/latest/dg/with-msk.html>
//!
//! A record that waits goes through an SQS queue, and one that is given up ends in another. So a value that SQS does not
//! take, as it is no text, holds characters that SQS refuses or is too large, is unusable from the start, whatever it says.

use std::fmt;

use data_encoding::BASE64;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    failure::quoted,
    json::{Fault, Object},
    telemetry::trace::TraceContext,
    trigger::{
        fault,
        sqs::dead_letter::{LARGEST_BODY, is_text_for_sqs},
    },
};

/// As long as the text of a header's bytes is in JSON, at most: four characters and a comma for each byte of the longest
/// header that is read. Longer ones are not passed on anyway.
const LONGEST_HEADER: usize = 5 * 8 * 1024;

/// A record of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub place: Place,
    /// Its value, still undecoded.
    pub body: String,
    /// Its headers that say something of the trace.
    pub headers: Headers,
}

/// Where a record stands: its topic and partition, and its offset. It is told as `bookings-0@5`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The topic and the partition, as Lambda joins them by a hyphen.
    pub partition: String,
    /// The offset; nothing where the event does not say it as a number.
    pub offset: Option<i64>,
}

/// The headers of a record that say something of the trace, in their order. Their names are compared without case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    traceparents: Vec<String>,
    baggages: Vec<String>,
}

/// A record as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrived {
    /// It has a value that is text.
    Readable(Record),
    /// It has no value: the key has been deleted, as far as the topic goes.
    Tombstone(Place),
    /// Nobody can work it.
    Unusable(Unusable),
}

/// A record that nobody can work, with what of it can be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// Where it stands.
    pub place: Place,
    /// What of its value, or of the whole record where the value can't be told, SQS takes. It is never empty.
    pub body: String,
    /// Whether the body is base64 of what was there.
    pub is_base64: bool,
    /// How many bytes there were, where the body is only their beginning.
    pub cut_from: Option<usize>,
    /// What is wrong with it. It fits after "the".
    pub fault: String,
    /// Its headers that say something of the trace.
    pub headers: Headers,
}

impl Place {
    /// The topic's name.
    pub fn topic(&self) -> &str {
        self.partition.rsplit_once('-').map_or(self.partition.as_str(), |(topic, _)| topic)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partition = quoted(&self.partition);
        match self.offset {
            Some(offset) => write!(f, "{partition}@{offset}"),
            None => write!(f, "{partition}@?"),
        }
    }
}

impl Headers {
    /// The producer's trace context: of a header first, then as the body says it (outermost first).
    pub fn producer(&self, traceparents: &[Option<String>], baggages: &[Option<String>]) -> TraceContext {
        fn all<'a>(headers: &'a [String], in_body: &'a [Option<String>]) -> impl Iterator<Item = Option<&'a str>> {
            let headers = headers.iter().map(|header| Some(header.as_str()));
            headers.chain(in_body.iter().map(Option::as_deref))
        }
        TraceContext::first_of(all(&self.traceparents, traceparents), None, all(&self.baggages, baggages))
    }

    /// Reads what is there; what can't be read is left out, because it decides nothing.
    fn of(record: &Object<'_>) -> Self {
        let mut headers = Self::default();
        let Ok(Some(list)) = record.raw("headers") else { return headers };
        let list: Vec<&RawValue> = serde_json::from_str(list.get()).unwrap_or_default();
        for header in list.into_iter().filter_map(|header| serde_json::from_str::<Object<'_>>(header.get()).ok()) {
            for (name, value) in header.entries() {
                let texts = match name {
                    _ if name.eq_ignore_ascii_case("traceparent") => &mut headers.traceparents,
                    _ if name.eq_ignore_ascii_case("baggage") => &mut headers.baggages,
                    _ => continue,
                };
                texts.extend(header_text(value));
            }
        }
        headers
    }
}

impl Unusable {
    /// A value, or a whole record, of which SQS gets what it takes.
    fn new(place: Place, headers: Headers, bytes: &[u8], fault: String) -> Self {
        let text = std::str::from_utf8(bytes).ok().filter(|text| is_text_for_sqs(text));
        let mut body = text.map_or_else(|| BASE64.encode(bytes), str::to_owned);
        let cut_from = (body.len() > LARGEST_BODY).then_some(bytes.len());
        if cut_from.is_some() {
            // Four characters of base64 belong together.
            body.truncate(body.floor_char_boundary(LARGEST_BODY / 4 * 4));
        }
        Self { place, body, is_base64: text.is_none(), cut_from, fault, headers }
    }
}

/// The records of a payload, by partition in their order.
///
/// # Errors
/// When it is not an event of Kafka, so that nothing in it can be acknowledged. The text says why.
pub fn read(payload: &str) -> Result<Vec<Arrived>, String> {
    let event = Object::read(payload).map_err(|error| format!("it {error}"))?;
    let records = event.raw("records").map_err(|error| format!("its field records {error}"))?;
    let records = records.ok_or("it has no field records")?;
    let Partitions(partitions) = serde_json::from_str(records.get()).map_err(|error| fault(&error))?;
    let arrived = |(partition, records): (String, Vec<&RawValue>)| {
        records.into_iter().map(move |record| read_record(&partition, record)).collect::<Vec<_>>()
    };
    Ok(partitions.into_iter().flat_map(arrived).collect())
}

fn read_record(partition: &str, raw: &RawValue) -> Arrived {
    let partition = partition.to_owned();
    let Ok(record) = serde_json::from_str::<Object<'_>>(raw.get()) else {
        let place = Place { partition, offset: None };
        let fault = "record is not an object".to_owned();
        return Arrived::Unusable(Unusable::new(place, Headers::default(), raw.get().as_bytes(), fault));
    };
    let offset = record.raw("offset").ok().flatten().and_then(|offset| offset.get().parse().ok());
    let place = Place { partition, offset };
    let headers = Headers::of(&record);
    match value_of(&record) {
        Ok(None) => Arrived::Tombstone(place),
        Ok(Some(bytes)) => match text_of(bytes) {
            Ok(body) => Arrived::Readable(Record { place, body, headers }),
            Err((bytes, fault)) => Arrived::Unusable(Unusable::new(place, headers, &bytes, fault.to_owned())),
        },
        Err(Odd::Value(text)) => {
            let fault = "value is not base64".to_owned();
            Arrived::Unusable(Unusable::new(place, headers, text.as_bytes(), fault))
        }
        Err(Odd::Field(fault)) => {
            let fault = format!("record's value {fault}");
            Arrived::Unusable(Unusable::new(place, headers, raw.get().as_bytes(), fault))
        }
    }
}

/// Why nobody can tell a value.
enum Odd {
    /// It is a text that stands for no bytes.
    Value(String),
    /// It can't be told what it is.
    Field(Fault),
}

/// The bytes of a value; nothing where there are none. Lambda writes them in base64; what comes as JSON of another kind is
/// taken as it stands there.
fn value_of(record: &Object<'_>) -> Result<Option<Vec<u8>>, Odd> {
    let Some(raw) = record.raw("value").map_err(Odd::Field)? else { return Ok(None) };
    let bytes = match raw.get() {
        "null" => return Ok(None),
        text if text.starts_with('"') => match serde_json::from_str::<String>(text) {
            Ok(base64) => BASE64.decode(base64.as_bytes()).map_err(|_| Odd::Value(base64))?,
            // Half a surrogate pair and the like.
            Err(_) => return Err(Odd::Value(text.to_owned())),
        },
        json => json.as_bytes().to_vec(),
    };
    // Some producers mean a deletion by it, and SQS takes no empty body.
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

/// The bytes as a text that SQS takes, or what is wrong with them.
fn text_of(bytes: Vec<u8>) -> Result<String, (Vec<u8>, &'static str)> {
    match String::from_utf8(bytes) {
        Ok(text) if text.len() > LARGEST_BODY => Err((text.into_bytes(), "value is larger than an SQS message may be")),
        Ok(text) if is_text_for_sqs(&text) => Ok(text),
        Ok(text) => Err((text.into_bytes(), "value holds a character that no SQS message may hold")),
        Err(error) => Err((error.into_bytes(), "value is not UTF-8")),
    }
}

/// The text of a header, whose bytes Lambda writes as numbers with a sign; nothing where they are no text.
fn header_text(value: &RawValue) -> Option<String> {
    let value = Some(value.get()).filter(|value| value.len() <= LONGEST_HEADER)?;
    let numbers: Vec<i16> = serde_json::from_str(value).ok()?;
    // -1 is the byte 255; some writers have no sign.
    let byte = |number: i16| u8::try_from(number).or_else(|_| i8::try_from(number).map(i8::cast_unsigned)).ok();
    String::from_utf8(numbers.into_iter().map(byte).collect::<Option<_>>()?).ok()
}

/// A map of lists, in which a name that comes twice loses nothing.
struct Partitions<'a>(Vec<(String, Vec<&'a RawValue>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Partitions<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries).map(Self)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(String, Vec<&'de RawValue>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of partitions to their records")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut partitions = Vec::new();
        while let Some(partition) = map.next_entry()? {
            partitions.push(partition);
        }
        Ok(partitions)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    /// The bytes of a text as Lambda writes those of a header.
    fn signed(text: &str) -> Vec<i8> {
        text.bytes().map(u8::cast_signed).collect()
    }

    fn event(record: &Value) -> String {
        json!({"eventSource": "aws:kafka", "records": {"bookings-0": [record]}}).to_string()
    }

    #[track_caller]
    fn only(payload: &str) -> Arrived {
        let [arrived] = <[Arrived; 1]>::try_from(read(payload).unwrap()).unwrap();
        arrived
    }

    #[track_caller]
    fn readable(record: &Value) -> Record {
        match only(&event(record)) {
            Arrived::Readable(record) => record,
            other @ (Arrived::Tombstone(_) | Arrived::Unusable(_)) => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn unusable(payload: &str) -> Unusable {
        match only(payload) {
            Arrived::Unusable(unusable) => unusable,
            other @ (Arrived::Tombstone(_) | Arrived::Readable(_)) => panic!("{other:?}"),
        }
    }

    fn value(bytes: &[u8]) -> Value {
        json!(BASE64.encode(bytes))
    }

    #[test]
    fn an_event_of_lambda_is_read_as_it_is_documented() {
        let record = |offset: i64, text: &str| {
            json!({
                "topic": "bookings", "partition": 0, "offset": offset, "timestamp": 1545084650987_u64,
                "timestampType": "CREATE_TIME", "key": "YWJj", "value": value(text.as_bytes()),
                "headers": [{"source": [119, 101, 98]}],
            })
        };
        let event = json!({
            "eventSource": "aws:kafka",
            "eventSourceArn": "arn:aws:kafka:us-east-1:123456789012:cluster/c/751d2973-a626-431c-9d4e-d7975eb44dd7-2",
            "bootstrapServers": "b-1.c.a1.kafka.us-east-1.amazonaws.com:9092",
            "records": {"my-bookings-1": [record(15, "é"), record(16, "b")], "my-bookings-0": [record(7, "c")]},
        });
        let told: Vec<String> = read(&event.to_string())
            .unwrap()
            .into_iter()
            .map(|arrived| match arrived {
                Arrived::Readable(record) => format!("{} {} {}", record.place.topic(), record.place, record.body),
                other @ (Arrived::Tombstone(_) | Arrived::Unusable(_)) => format!("{other:?}"),
            })
            .collect();
        // serde_json's own map sorts its names; the order of two partitions means nothing.
        assert_eq!(
            told,
            ["my-bookings my-bookings-0@7 c", "my-bookings my-bookings-1@15 é", "my-bookings my-bookings-1@16 b"]
        );
    }

    #[test]
    fn what_decides_nothing_may_be_missing_null_or_odd() {
        for (field, odd) in [
            ("headers", Value::Null),
            ("headers", json!("none")),
            ("headers", json!([null, 7, {"baggage": null}, {"baggage": [400]}, {"baggage": [-129]}, {"x": {}}])),
            ("key", Value::Null),
            ("key", json!({"id": 1})),
            ("timestamp", json!(-1)),
            ("timestampType", json!("NO_TIMESTAMP_TYPE")),
            ("valueSchemaMetadata", json!({"dataFormat": "JSON", "schemaId": "1"})),
        ] {
            let mut record = json!({"offset": 5, "value": value(b"{}")});
            record[field] = odd;
            let read = readable(&record);
            assert_eq!((read.body.as_str(), read.headers), ("{}", Headers::default()), "{record}");
            assert_eq!(read.place.to_string(), "bookings-0@5");
        }
        for offset in [Value::Null, json!("5"), json!(1e30), json!({})] {
            assert_eq!(readable(&json!({"offset": offset, "value": "e30="})).place.to_string(), "bookings-0@?");
        }
        assert_eq!(readable(&json!({"value": "e30="})).place.to_string(), "bookings-0@?");
        let odd = Place { partition: "book\u{7f}ings-0".to_owned(), offset: Some(5) };
        assert_eq!(odd.to_string(), "book\u{fffd}ings-0@5", "it stands on one line of a log");
    }

    #[test]
    fn a_trace_comes_from_the_headers_whatever_their_case_and_then_from_the_body() {
        let record = json!({"value": "e30=", "headers": [
            {"other": signed("x")}, {"TraceParent": signed("junk")}, {"traceparent": signed(PARENT)},
            {"Baggage": signed("user=ü")}, {"bagGage": [0, -1]}, {"BAGGAGE": signed("trace-id=abc123")},
        ]});
        let headers = readable(&record).headers;
        assert_eq!(headers.baggages, ["user=ü", "trace-id=abc123"], "bytes that are no text are left out");
        let other = Some(PARENT.replace("4bf9", "aaaa"));
        let context = headers.producer(std::slice::from_ref(&other), &[Some("k=v".to_owned())]);
        assert_eq!(context.traceparent.as_deref(), Some(PARENT));
        assert_eq!(context.baggage.as_deref(), Some("trace-id=abc123"), "no header carries what is not ASCII");
        let context = Headers::default().producer(&[None, other.clone()], &[Some("k=v".to_owned())]);
        assert_eq!((context.traceparent, context.baggage.as_deref()), (other, Some("k=v")));
    }

    #[test]
    fn header_bytes_have_a_sign_or_none() {
        let text = |numbers: &[i32]| {
            let record = json!({"value": "e30=", "headers": [{"baggage": numbers}]});
            readable(&record).headers.baggages.into_iter().next()
        };
        assert_eq!(text(&[-61, -68]).as_deref(), Some("ü"));
        assert_eq!(text(&[195, 188]).as_deref(), Some("ü"));
        assert_eq!(text(&[]).as_deref(), Some(""));
        for no_text in [&[-128][..], &[255], &[256], &[-129], &[1, 70_000]] {
            assert_eq!(text(no_text), None, "{no_text:?}");
        }
        assert_eq!(text(&vec![-61; 9_000]), None, "it is too long to be read");
    }

    #[test]
    fn a_record_without_a_value_is_a_tombstone() {
        for record in [json!({"offset": 5, "value": null}), json!({"offset": 5}), json!({"offset": 5, "value": ""})] {
            let place = Place { partition: "bookings-0".to_owned(), offset: Some(5) };
            assert_eq!(only(&event(&record)), Arrived::Tombstone(place), "{record}");
        }
    }

    #[test]
    fn a_value_that_is_json_already_is_taken_as_it_stands_there() {
        let payload = r#"{"records": {"t-0": [{"value": {"b": 1.50, "a": "\u00e9"}, "headers": null}]}}"#;
        match only(payload) {
            Arrived::Readable(record) => assert_eq!(record.body, r#"{"b": 1.50, "a": "\u00e9"}"#),
            other @ (Arrived::Tombstone(_) | Arrived::Unusable(_)) => panic!("{other:?}"),
        }
        assert_eq!(readable(&json!({"value": 7})).body, "7");
    }

    #[test]
    fn a_value_that_sqs_does_not_take_is_kept_as_base64() {
        let broken = [0x7b, 0xff, 0x7d];
        let found = unusable(&event(&json!({"offset": 5, "value": value(&broken)})));
        assert_eq!((found.fault.as_str(), found.is_base64, found.cut_from), ("value is not UTF-8", true, None));
        assert_eq!(BASE64.decode(found.body.as_bytes()).unwrap(), broken);
        for refused in ["a\u{0}", "\u{b}", "\u{1b}", "\u{fffe}", "\u{ffff}"] {
            let found = unusable(&event(&json!({"value": value(refused.as_bytes())})));
            assert_eq!(found.fault, "value holds a character that no SQS message may hold", "{refused:?}");
            assert_eq!(BASE64.decode(found.body.as_bytes()).unwrap(), refused.as_bytes());
        }
        for taken in ["\t\n\r ~", "\u{7f}", "\u{d7ff}\u{e000}\u{fffd}", "\u{10000}\u{1fffe}"] {
            assert_eq!(readable(&json!({"value": value(taken.as_bytes())})).body, taken);
        }
    }

    #[test]
    fn a_value_that_is_larger_than_a_message_is_cut() {
        let largest = "é".repeat(LARGEST_BODY / 2);
        assert_eq!(readable(&json!({"value": value(largest.as_bytes())})).body, largest);
        let larger = format!("{largest}é");
        let found = unusable(&event(&json!({"value": value(larger.as_bytes())})));
        assert_eq!(found.fault, "value is larger than an SQS message may be");
        assert_eq!((found.body == largest, found.is_base64, found.cut_from), (true, false, Some(larger.len())));
        let bytes = vec![0xff; LARGEST_BODY];
        let found = unusable(&event(&json!({"value": value(&bytes)})));
        assert_eq!((found.is_base64, found.cut_from), (true, Some(LARGEST_BODY)));
        let kept = BASE64.decode(found.body.as_bytes()).unwrap();
        assert!(found.body.len() <= LARGEST_BODY && bytes.starts_with(&kept) && kept.len() > LARGEST_BODY / 2);
    }

    #[test]
    fn a_record_whose_value_cannot_be_told_is_kept_as_it_came() {
        for (record, body, fault) in [
            ("null", "null", "record is not an object"),
            ("[1]", "[1]", "record is not an object"),
            (r#"{"value": "e30"}"#, "e30", "value is not base64"),
            (r#"{"value": "{\"a\": 1}"}"#, r#"{"a": 1}"#, "value is not base64"),
            (r#"{"value": "\ud800"}"#, r#""\ud800""#, "value is not base64"),
            (
                r#"{"value": "e30=", "value": null}"#,
                r#"{"value": "e30=", "value": null}"#,
                "record's value stands there more than once, with different values",
            ),
        ] {
            let found = unusable(&format!(r#"{{"records": {{"t-0": [{record}]}}}}"#));
            assert_eq!((found.body.as_str(), found.fault.as_str(), found.is_base64), (body, fault, false), "{record}");
        }
    }

    #[test]
    fn an_odd_record_leaves_its_neighbours_alone_and_a_partition_twice_loses_nothing() {
        let payload = r#"{"records": {
            "t-0": [{"offset": 1, "value": "e30="}, 7, {"offset": 3, "value": "e30="}],
            "t-0": [{"offset": 4, "value": "e30="}],
            "t-1": []
        }}"#;
        let told: Vec<String> = read(payload)
            .unwrap()
            .into_iter()
            .map(|arrived| match arrived {
                Arrived::Readable(record) => record.place.to_string(),
                Arrived::Unusable(unusable) => format!("{} is bad", unusable.place),
                Arrived::Tombstone(place) => format!("{place} is empty"),
            })
            .collect();
        assert_eq!(told, ["t-0@1", "t-0@? is bad", "t-0@3", "t-0@4"]);
    }

    #[test]
    fn what_is_no_event_is_refused_as_a_whole() {
        for payload in ["{}", r#"{"records": []}"#, r#"{"records": null}"#, r#"{"records": {"t-0": null}}"#, "[]", "{"]
        {
            assert!(read(payload).is_err(), "{payload}");
        }
        assert_eq!(read(r#"{"records": {}}"#).unwrap(), []);
    }

    #[test]
    fn a_topic_may_hold_hyphens_and_a_partition_need_not_be_joined() {
        let topic = |partition: &str| Place { partition: partition.to_owned(), offset: None }.topic().to_owned();
        assert_eq!((topic("a-b-12"), topic("plain")), ("a-b".to_owned(), "plain".to_owned()));
    }
}
