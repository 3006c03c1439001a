//! From the path and the query of an event to a request's target.
//!
//! An HTTP API hands its path over decoded, so that anything may stand in it, and its query as the client wrote it. Both are
//! made fit for a URI without changing what they mean: whoever decodes the target's path has the event's path again.

use std::borrow::Cow;

use http::{
    Uri,
    uri::{InvalidUri, PathAndQuery},
};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

/// The stage whose name is no part of the path.
const DEFAULT_STAGE: &str = "$default";

/// What is escaped in a path: all but what may stand in one by RFC 3986. A percent sign of a decoded path is a percent sign.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// What is escaped in a query: only what no URI takes, because the rest is as its client meant it.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');

/// Why there is no target.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    /// It is relative to something unknown.
    #[error("the path does not begin with a slash")]
    Relative,
    /// It is too long, by the only rule that is left once everything is escaped.
    #[error("path and query are not a URI: {0}")]
    Unfit(#[from] InvalidUri),
}

/// The target of a request for the event's `path` and `query`, without the name of the `stage` in front.
///
/// # Errors
/// When the path is relative, or path and query are too long for a URI.
pub(super) fn target(path: &str, query: &str, stage: &str) -> Result<Uri, TargetError> {
    if !path.starts_with('/') {
        return Err(TargetError::Relative);
    }
    let mut target = utf8_percent_encode(without(stage, path), PATH).to_string();
    if !query.is_empty() {
        target.push('?');
        target.extend(utf8_percent_encode(&escapes_repaired(query), QUERY));
    }
    Ok(Uri::from(PathAndQuery::try_from(target)?))
}

/// The path that the stage's routes see.
fn without<'a>(stage: &str, path: &'a str) -> &'a str {
    if stage == DEFAULT_STAGE || stage.is_empty() {
        return path;
    }
    match path.strip_prefix('/').and_then(|path| path.strip_prefix(stage)) {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        Some(_) | None => path,
    }
}

/// The query with each percent sign escaped that begins no escape.
fn escapes_repaired(query: &str) -> Cow<'_, str> {
    let begins_escape =
        |rest: &str| rest.len() >= 2 && rest.as_bytes()[..2].iter().all(|byte| byte.is_ascii_hexdigit());
    if query.split('%').skip(1).all(begins_escape) {
        return query.into();
    }
    let mut parts = query.split('%');
    let mut repaired = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        repaired.push_str(if begins_escape(part) { "%" } else { "%25" });
        repaired.push_str(part);
    }
    repaired.into()
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;

    use super::*;

    #[track_caller]
    fn check(path: &str, query: &str, expected: &str) {
        assert_eq!(target(path, query, DEFAULT_STAGE).unwrap().to_string(), expected, "{path:?} {query:?}");
    }

    #[test]
    fn what_cannot_stand_in_a_path_is_escaped_again() {
        check("/v1/reservations/rsv_1", "", "/v1/reservations/rsv_1");
        check("/a b", "", "/a%20b");
        check("/a?b#c", "", "/a%3Fb%23c");
        check("/a?b", "c=d", "/a%3Fb?c=d");
        check("/λ/世", "", "/%CE%BB/%E4%B8%96");
        check("/a\"b<c>\\^`{|}[]\u{7f}\n", "", "/a%22b%3Cc%3E%5C%5E%60%7B%7C%7D%5B%5D%7F%0A");
    }

    #[test]
    fn a_percent_sign_of_a_decoded_path_is_no_escape() {
        check("/100%", "", "/100%25");
        check("/a%2Fb", "", "/a%252Fb");
    }

    #[test]
    fn what_may_stand_in_a_path_is_left_alone() {
        let legal = "/AZaz09-._~!$&'()*+,;=:@//../.";
        check(legal, "", legal);
    }

    #[test]
    fn whoever_decodes_the_target_has_the_path_again() {
        for path in ["/", "//evil.example/x", "/a%zz?#", "/\u{0}\u{10ffff}", "/a+b"] {
            let target = target(path, "x=1", DEFAULT_STAGE).unwrap();
            assert_eq!(percent_decode_str(target.path()).decode_utf8().unwrap(), path);
            assert_eq!((target.query(), target.host()), (Some("x=1"), None), "{path:?}");
        }
    }

    #[test]
    fn a_query_stays_as_its_client_wrote_it() {
        for query in
            ["a=1&a=2", "redirect=https%3A%2F%2Fexample.com%2Fa", "plus=a+b&p=a%2Bb&empty=", "a[]={x}|^`\\", "?"]
        {
            check("/", query, &format!("/?{query}"));
        }
    }

    #[test]
    fn a_query_that_no_uri_takes_is_escaped() {
        check("/", "q=a\"b c#d<e>", "/?q=a%22b%20c%23d%3Ce%3E");
        check("/", "q=é\n", "/?q=%C3%A9%0A");
        check("/", "a=%&b=%4&c=%zz&d=%41%", "/?a=%25&b=%254&c=%25zz&d=%41%25");
        check("/", "%é", "/?%25%C3%A9");
    }

    #[test]
    fn a_stage_is_taken_off_the_path_by_its_name() {
        let of = |stage: &str, path: &str| target(path, "", stage).unwrap().to_string();
        assert_eq!(of("prod", "/prod/v1/a"), "/v1/a");
        assert_eq!(of("prod", "/prod"), "/");
        assert_eq!(of("prod", "/prod/prod/a"), "/prod/a", "once");
        assert_eq!(of("prod", "/production/a"), "/production/a", "another name");
        assert_eq!(of("prod", "/v1/a"), "/v1/a", "a domain of one's own has no stage in its paths");
        assert_eq!(of("$default", "/$default/a"), "/$default/a");
        assert_eq!(of("", "/a"), "/a");
    }

    #[test]
    fn a_path_that_makes_no_target_says_why() {
        for path in ["", "a", "http://example.com/"] {
            assert!(matches!(target(path, "", DEFAULT_STAGE), Err(TargetError::Relative)), "{path:?}");
        }
        let long = format!("/{}", "a".repeat(70_000));
        assert!(matches!(target(&long, "", DEFAULT_STAGE), Err(TargetError::Unfit(_))));
    }
}
