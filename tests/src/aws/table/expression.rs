//! The part of DynamoDB's expressions that the idempotency store uses, read and evaluated in one pass:
//!
//! ```text
//! condition := all (OR all)*           all := one (AND one)*
//! one       := ( condition ) | attribute_exists(#name) | attribute_not_exists(#name) | operand (= | <) operand
//! update    := [SET #name = sum (, #name = sum)*] [REMOVE #name (, #name)*]
//! sum       := term [+ term]           term := operand | if_not_exists(#name, operand)
//! operand   := #name | :value
//! ```

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Item;

/// Why a request can't be evaluated.
#[derive(Debug)]
pub(super) struct Malformed(pub(super) String);

/// What becomes of attributes, by name; none is removed.
pub(super) type Changes = Vec<(String, Option<Value>)>;

/// The expressions of one request about one item.
pub(super) struct Expressions<'a> {
    names: &'a Value,
    values: &'a Value,
    item: &'a Item,
    /// The names and values that were used, because DynamoDB takes none in vain.
    used: BTreeSet<&'a str>,
    /// What is left of the expression in hand, backwards.
    tokens: Vec<&'a str>,
}

impl<'a> Expressions<'a> {
    pub(super) fn new(names: &'a Value, values: &'a Value, item: &'a Item) -> Self {
        Self { names, values, item, used: BTreeSet::new(), tokens: Vec::new() }
    }

    /// Whether the condition holds for the item; one that is not given does.
    pub(super) fn condition(&mut self, expression: Option<&'a str>) -> Result<bool, Malformed> {
        let Some(expression) = expression else { return Ok(true) };
        self.tokens = tokens(expression)?;
        let holds = self.any()?;
        self.end()?;
        Ok(holds)
    }

    /// What the update makes of the item. All of it is computed from what the item was before.
    pub(super) fn update(&mut self, expression: Option<&'a str>) -> Result<Changes, Malformed> {
        let mut changes = Vec::new();
        let Some(expression) = expression else { return Ok(changes) };
        self.tokens = tokens(expression)?;
        if self.takes("SET") {
            loop {
                let attribute = self.name()?;
                self.expect("=")?;
                changes.push((attribute.to_owned(), Some(self.sum()?)));
                if !self.takes(",") {
                    break;
                }
            }
        }
        if self.takes("REMOVE") {
            loop {
                changes.push((self.name()?.to_owned(), None));
                if !self.takes(",") {
                    break;
                }
            }
        }
        self.end()?;
        Ok(changes)
    }

    /// Looks that every name and value was used.
    pub(super) fn finish(self) -> Result<(), Malformed> {
        let given = [self.names, self.values].into_iter().filter_map(Value::as_object).flat_map(Map::keys);
        match given.into_iter().find(|given| !self.used.contains(given.as_str())) {
            Some(unused) => Err(Malformed(format!("{unused} is in no expression"))),
            None => Ok(()),
        }
    }

    fn any(&mut self) -> Result<bool, Malformed> {
        let mut holds = self.all()?;
        while self.takes("OR") {
            holds |= self.all()?;
        }
        Ok(holds)
    }

    fn all(&mut self) -> Result<bool, Malformed> {
        let mut holds = self.one()?;
        while self.takes("AND") {
            holds &= self.one()?;
        }
        Ok(holds)
    }

    fn one(&mut self) -> Result<bool, Malformed> {
        if self.takes("(") {
            let holds = self.any()?;
            self.expect(")")?;
            return Ok(holds);
        }
        if self.takes("attribute_exists") {
            return self.exists();
        }
        if self.takes("attribute_not_exists") {
            return Ok(!self.exists()?);
        }
        let left = self.operand()?;
        let less = self.takes("<");
        if !less {
            self.expect("=")?;
        }
        let right = self.operand()?;
        // An attribute that is not there is neither equal to anything nor less than it.
        let (Some(left), Some(right)) = (left, right) else { return Ok(false) };
        match (Scalar::of(left)?, Scalar::of(right)?) {
            (Scalar::Text(left), Scalar::Text(right)) => Ok(if less { left < right } else { left == right }),
            (Scalar::Number(left), Scalar::Number(right)) => Ok(if less { left < right } else { left == right }),
            // The store compares with texts and numbers only, and a null equals neither.
            (Scalar::Text(_), Scalar::Number(_) | Scalar::Null)
            | (Scalar::Number(_), Scalar::Text(_) | Scalar::Null)
            | (Scalar::Null, Scalar::Text(_) | Scalar::Number(_)) => Ok(false),
            (Scalar::Null, Scalar::Null) => Err(Malformed("two nulls are compared".to_owned())),
        }
    }

    fn exists(&mut self) -> Result<bool, Malformed> {
        self.expect("(")?;
        let attribute = self.name()?;
        self.expect(")")?;
        Ok(self.item.contains_key(attribute))
    }

    fn sum(&mut self) -> Result<Value, Malformed> {
        let first = self.term()?;
        if !self.takes("+") {
            return Ok(first);
        }
        let second = self.term()?;
        match (Scalar::of(&first)?, Scalar::of(&second)?) {
            (Scalar::Number(first), Scalar::Number(second)) => Ok(json!({"N": (first + second).to_string()})),
            (Scalar::Text(_) | Scalar::Null, _) | (_, Scalar::Text(_) | Scalar::Null) => {
                Err(Malformed("only numbers add up".to_owned()))
            }
        }
    }

    fn term(&mut self) -> Result<Value, Malformed> {
        let value = if self.takes("if_not_exists") {
            self.expect("(")?;
            let attribute = self.name()?;
            self.expect(",")?;
            let otherwise = self.operand()?;
            self.expect(")")?;
            self.item.get(attribute).or(otherwise)
        } else {
            self.operand()?
        };
        value.cloned().ok_or_else(|| Malformed("an attribute that an update reads is not there".to_owned()))
    }

    fn operand(&mut self) -> Result<Option<&'a Value>, Malformed> {
        if self.tokens.last().is_some_and(|token| token.starts_with('#')) {
            let attribute = self.name()?;
            return Ok(self.item.get(attribute));
        }
        let token = self.next(':')?;
        let value = self.values.get(token).ok_or_else(|| Malformed(format!("{token} has no value")))?;
        Ok(Some(value))
    }

    /// The attribute that a name stands for.
    fn name(&mut self) -> Result<&'a str, Malformed> {
        let token = self.next('#')?;
        let name = self.names.get(token).and_then(Value::as_str);
        name.ok_or_else(|| Malformed(format!("{token} names no attribute")))
    }

    fn next(&mut self, first: char) -> Result<&'a str, Malformed> {
        let token = self.tokens.pop().unwrap_or_default();
        if !token.starts_with(first) {
            return Err(Malformed(format!("{token:?} stands where something with {first:?} must")));
        }
        self.used.insert(token);
        Ok(token)
    }

    fn takes(&mut self, token: &str) -> bool {
        self.tokens.pop_if(|next| *next == token).is_some()
    }

    fn expect(&mut self, token: &str) -> Result<(), Malformed> {
        if self.takes(token) {
            return Ok(());
        }
        let found = self.tokens.last().copied().unwrap_or_default();
        Err(Malformed(format!("{found:?} stands where {token:?} must")))
    }

    fn end(&self) -> Result<(), Malformed> {
        match self.tokens.last() {
            Some(more) => Err(Malformed(format!("this table does not understand {more:?} here"))),
            None => Ok(()),
        }
    }
}

/// A value that can be compared.
enum Scalar<'a> {
    Text(&'a str),
    Number(i128),
    Null,
}

impl<'a> Scalar<'a> {
    fn of(value: &'a Value) -> Result<Self, Malformed> {
        let number = || value["N"].as_str().and_then(|digits| digits.parse().ok()).map(Scalar::Number);
        let null = || value["NULL"].as_bool().map(|_| Scalar::Null);
        let scalar = value["S"].as_str().map(Scalar::Text).or_else(number).or_else(null);
        scalar.ok_or_else(|| Malformed(format!("{value} is neither a text nor a whole number")))
    }
}

/// The words and signs of an expression, the last one first.
fn tokens(expression: &str) -> Result<Vec<&str>, Malformed> {
    let (mut tokens, mut rest) = (Vec::new(), expression.trim_start());
    while let Some(first) = rest.chars().next() {
        let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let length = match first {
            '(' | ')' | ',' | '=' | '<' | '+' => 1,
            '#' | ':' => 1 + rest[1..].find(|letter| !word(letter)).unwrap_or(rest.len() - 1),
            letter if word(letter) => rest.find(|letter| !word(letter)).unwrap_or(rest.len()),
            unknown => return Err(Malformed(format!("this table does not know the sign {unknown:?}"))),
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens.reverse();
    Ok(tokens)
}
