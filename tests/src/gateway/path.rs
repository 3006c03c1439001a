//! The path that an HTTP API makes of what its client asked for.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The path as routes and functions see it, by what was recorded of a real API
/// (<https://github.com/hotsock/voker/blob/main/vokerhttp/testdata/ingress-paths.json>): decoded, read as a target once more,
/// and decoded again. So a question mark that was escaped cuts the path off, and what was escaped twice is not escaped at
/// all. Nothing: it can't be read the second time, and the request is refused.
pub(super) fn decoded(path: &str) -> Option<String> {
    let once = decoded_once(path)?;
    let cut = once.split('?').next().unwrap_or_default();
    Some(decoded_once(cut)?.into_owned())
}

/// The path without its escapes. Bytes that are no text become replacement characters, as JSON can't hold them.
fn decoded_once(path: &str) -> Option<Cow<'_, str>> {
    let escapes = path.split('%').skip(1);
    let sound = |rest: &str| rest.len() >= 2 && rest.as_bytes()[..2].iter().all(|byte| byte.is_ascii_hexdigit());
    escapes.into_iter().all(sound).then(|| percent_decode_str(path).decode_utf8_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_as_a_real_api_was_seen_to() {
        for (sent, seen) in [
            ("/capture/plain", Some("/capture/plain")),
            ("/capture/space%20value", Some("/capture/space value")),
            ("/capture/question%3Fvalue", Some("/capture/question")),
            ("/capture/percent%25done", None),
            ("/capture/hash%23value", Some("/capture/hash#value")),
            ("/capture/slash%2Fvalue", Some("/capture/slash/value")),
            ("/capture/unicode-%CE%BB-%E4%B8%96%E7%95%8C", Some("/capture/unicode-λ-世界")),
            ("/capture/literal%252Fvalue", Some("/capture/literal/value")),
            ("/capture/literal%253Fvalue", Some("/capture/literal?value")),
            ("/capture/literal%2525value", Some("/capture/literal%value")),
        ] {
            assert_eq!(decoded(sent).as_deref(), seen, "{sent}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_refused_or_replaced() {
        for path in ["/%", "/%4", "/%zz", "/%é"] {
            assert_eq!(decoded(path), None, "{path}");
        }
        assert_eq!(decoded("/%ff").as_deref(), Some("/\u{fffd}"));
    }
}
