//! Filters that a person writes with places for what is asked: `(&(uid=$username)(host=$hostname))`, `(mail=%u@%r)`.
//!
//! What is put into a place is escaped (RFC 4515), so that it is a value and nothing else. A template is checked when the
//! configuration is read: with something in every place it is a filter.

use wire::ldap::filter;

/// A filter with places.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Place(String),
}

impl Template {
    /// Reads places written `$name` or `${name}`, of these names.
    ///
    /// # Errors
    /// Which name is unknown, or why it is no filter.
    pub fn dollars(text: &str, names: &[&str]) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            pieces.push(Piece::Text(before.to_owned()));
            let (name, behind) = match after.strip_prefix('{').map(|inner| inner.split_once('}')) {
                Some(Some(found)) => found,
                Some(None) => return Err("`${` without `}`".to_owned()),
                None => {
                    let end = after.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(after.len());
                    after.split_at(end)
                }
            };
            place(&mut pieces, |name| format!("${name}"), name, names)?;
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Template { pieces }.checked()
    }

    /// Reads places written `{name}`, or `${name}`, of these names.
    ///
    /// # Errors
    /// Which name is unknown, or why it is no filter.
    pub fn braces(text: &str, names: &[&str]) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            pieces.push(Piece::Text(before.strip_suffix('$').unwrap_or(before).to_owned()));
            let (name, behind) = after.split_once('}').ok_or("`{` without `}`")?;
            place(&mut pieces, |name| format!("{{{name}}}"), name, names)?;
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Template { pieces }.checked()
    }

    /// Reads places written `%x`, of these letters; `%%` is a percent sign.
    ///
    /// # Errors
    /// Which letter is unknown, or why it is no filter.
    pub fn percents(text: &str, letters: &[&str]) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            pieces.push(Piece::Text(before.to_owned()));
            let end = after.chars().next().map_or(0, char::len_utf8);
            let (letter, behind) = after.split_at(end);
            if letter == "%" {
                pieces.push(Piece::Text("%".to_owned()));
            } else {
                place(&mut pieces, |letter| format!("%{letter}"), letter, letters)?;
            }
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Template { pieces }.checked()
    }

    /// The encoded filter with these values in its places; none where it comes out as no filter.
    pub fn fill<'v>(&self, value: impl Fn(&str) -> &'v [u8]) -> Option<Vec<u8>> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Place(name) => text.push_str(&filter::escape(value(name))),
            }
        }
        filter::parse(&text).ok()
    }

    fn checked(self) -> Result<Template, String> {
        let text: String = self
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(plain) => plain.as_str(),
                Piece::Place(_) => "x",
            })
            .collect();
        match filter::parse(&text) {
            Ok(_) => Ok(self),
            Err(error) => Err(error.what.to_owned()),
        }
    }
}

/// `written`: as a person writes it.
fn place(pieces: &mut Vec<Piece>, written: impl Fn(&str) -> String, name: &str, names: &[&str]) -> Result<(), String> {
    if !names.contains(&name) {
        let known: Vec<String> = names.iter().map(|name| written(name)).collect();
        return Err(format!(
            "`{}` stands for nothing; there are: {}",
            written(name),
            known.join(", ")
        ));
    }
    pieces.push(Piece::Place(name.to_owned()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &Template, value: &[u8]) -> String {
        let encoded = template.fill(|_| value).expect("a filter");
        filter::to_string(&encoded).expect("a filter")
    }

    #[test]
    fn places_in_braces_are_filled_and_a_wrong_one_is_shown_as_it_was_written() {
        for text in ["(&(uid={User-Name})(a=b))", "(&(uid=${User-Name})(a=b))"] {
            let template = Template::braces(text, &["User-Name"]).expect("a template");
            let filled = template.fill(|_| b"x)(y=*").expect("a filter");
            let right = filter::parse("(&(uid=x\\29\\28y=\\2a)(a=b))").expect("a filter");
            assert_eq!(filled, right, "{text}");
        }
        let why = |text| Template::braces(text, &["User-Name", "dn"]).expect_err("no template");
        assert_eq!(
            why("(uid={User-Nmae})"),
            "`{User-Nmae}` stands for nothing; there are: {User-Name}, {dn}"
        );
        assert_eq!(why("(uid={User-Name"), "`{` without `}`");
    }

    #[test]
    fn what_is_put_into_a_place_is_a_value_and_nothing_else() {
        let names = ["username", "host"];
        let template = Template::dollars("(&(uid=$username)(host=${host}.example))", &names).expect("a template");
        assert_eq!(filled(&template, b"a"), "(&(uid=a)(host=a.example))");
        assert_eq!(
            filled(&template, b"*)(uid=*"),
            "(&(uid=\\2a\\29\\28uid=\\2a)(host=\\2a\\29\\28uid=\\2a.example))"
        );
        let template = Template::percents("(|(uid=%u)(mail=100%%@%r))", &["u", "r"]).expect("a template");
        assert_eq!(filled(&template, b"x"), "(|(uid=x)(mail=100%@x))");
    }

    #[test]
    fn what_is_no_template_says_why() {
        let why = |text| Template::dollars(text, &["username"]).expect_err("no template");
        assert!(why("(uid=$user)").contains("$username"));
        assert!(why("(uid=${username)").contains('}'));
        assert!(why("uid=$username").contains("parentheses"));
        assert!(
            Template::percents("(uid=%q)", &["u"])
                .expect_err("no template")
                .contains("%u")
        );
        assert!(Template::percents("(uid=%", &["u"]).is_err());
    }
}
