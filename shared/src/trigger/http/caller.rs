//! Who the front door says is calling.

use serde_json::Value;

/// Who API Gateway has found to be calling: an extension of each request.
///
/// It is read from the event's own context, which no client can write, and never from a header. What is not said plainly is
/// [`Caller::Nobody`], so that a service which asks for a caller fails closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The route has no authorizer, or its authorizer named nobody.
    Nobody,
    /// The bearer of a token that the JWT authorizer has checked.
    Subject {
        /// The token's `sub`, never empty.
        sub: String,
        /// What the token allows: what its `scope` or `scp` names, in no order.
        scopes: Vec<String>,
    },
    /// A principal of AWS whose signature was checked and whose policies allow the call.
    Iam {
        /// Its ARN: of a user, or of a role's session (`arn:aws:sts::{account}:assumed-role/{role}/{session}`).
        arn: String,
    },
}

/// OpenID Connect allows no longer subject, and a table's key has its limits too.
const LONGEST_SUBJECT: usize = 255;

impl Caller {
    /// The customer that is calling: nobody, where the front door has named nobody, or somebody else than a customer.
    pub fn customer(&self) -> Option<&str> {
        match self {
            Self::Subject { sub, .. } => Some(sub.as_str()).filter(|sub| sub.len() <= LONGEST_SUBJECT),
            Self::Nobody | Self::Iam { .. } => None,
        }
    }

    /// Whether a principal of AWS is calling: a function of ours, or an operator.
    pub fn is_principal(&self) -> bool {
        match self {
            Self::Iam { .. } => true,
            Self::Nobody | Self::Subject { .. } => false,
        }
    }

    /// The caller by `requestContext.authorizer`.
    pub(super) fn of(authorizer: &Value) -> Self {
        let claims = &authorizer["jwt"]["claims"];
        let text = |value: &Value| value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
        match (text(&claims["sub"]), text(&authorizer["iam"]["userArn"])) {
            (Some(sub), None) => Self::Subject { sub, scopes: scopes(&authorizer["jwt"]["scopes"], claims) },
            (None, Some(arn)) => Self::Iam { arn },
            (None, None) | (Some(_), Some(_)) => Self::Nobody,
        }
    }
}

/// The scopes that the authorizer lists. It lists none where the route asks for none; the claims then have them as a text of
/// words, or as what a list becomes there: `[a b]`.
fn scopes(listed: &Value, claims: &Value) -> Vec<String> {
    let listed: Vec<String> =
        listed.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    if !listed.is_empty() {
        return listed;
    }
    let claimed = ["scope", "scp"].into_iter().find_map(|name| claims[name].as_str()).unwrap_or_default();
    let words = claimed.strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap_or(claimed);
    words.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(authorizer: Value, expected: Caller) {
        assert_eq!(Caller::of(&authorizer), expected, "{authorizer}");
    }

    fn subject(sub: &str, scopes: &[&str]) -> Caller {
        Caller::Subject { sub: sub.to_owned(), scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect() }
    }

    #[test]
    fn a_checked_token_names_its_subject_and_scopes() {
        check(json!({"jwt": {"claims": {"sub": "usr_1"}, "scopes": ["a", "b"]}}), subject("usr_1", &["a", "b"]));
        check(json!({"jwt": {"claims": {"sub": "usr_1"}, "scopes": null}}), subject("usr_1", &[]));
    }

    #[test]
    fn scopes_that_are_not_listed_are_read_from_the_claims() {
        for (name, claim) in [("scope", "a b"), ("scope", "[a b]"), ("scp", "[a b]"), ("scp", " a  b ")] {
            check(
                json!({"jwt": {"claims": {"sub": "usr_1", name: claim}, "scopes": null}}),
                subject("usr_1", &["a", "b"]),
            );
        }
        check(json!({"jwt": {"claims": {"sub": "usr_1", "scope": "[]"}, "scopes": []}}), subject("usr_1", &[]));
    }

    #[test]
    fn only_a_subject_of_a_length_that_a_standard_allows_is_a_customer() {
        assert_eq!(subject("usr_1", &[]).customer(), Some("usr_1"));
        assert_eq!(subject(&"u".repeat(255), &[]).customer().map(str::len), Some(255));
        assert_eq!(subject(&"u".repeat(256), &[]).customer(), None);
        assert_eq!(Caller::Nobody.customer(), None);
        assert_eq!(Caller::Iam { arn: "arn:aws:iam::123456789012:user/a".to_owned() }.customer(), None);
    }

    #[test]
    fn a_checked_signature_names_its_principal() {
        let arn = "arn:aws:sts::123456789012:assumed-role/payment-approved/session";
        check(json!({"iam": {"userArn": arn, "accountId": "123456789012"}}), Caller::Iam { arn: arn.to_owned() });
        let both_said = json!({"iam": {"userArn": arn}, "jwt": {"claims": null, "scopes": null}});
        check(both_said, Caller::Iam { arn: arn.to_owned() });
    }

    #[test]
    fn whoever_is_not_named_plainly_is_nobody() {
        for authorizer in [
            json!(null),
            json!({}),
            json!("usr_1"),
            json!({"jwt": null}),
            json!({"jwt": {"claims": null, "scopes": null}, "iam": {"userArn": ""}}),
            json!({"jwt": {"claims": {"scope": "a"}}}),
            json!({"jwt": {"claims": {"sub": ""}}}),
            json!({"jwt": {"claims": {"sub": " "}}}),
            json!({"jwt": {"claims": {"sub": 1}}}),
            json!({"jwt": {"claims": {"sub": ["usr_1"]}}}),
            json!({"lambda": {"sub": "usr_1"}}),
            json!({"sub": "usr_1"}),
            json!({"jwt": {"claims": {"sub": "usr_1"}}, "iam": {"userArn": "arn:aws:iam::123456789012:user/a"}}),
        ] {
            check(authorizer, Caller::Nobody);
        }
    }
}
