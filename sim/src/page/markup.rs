//! Text that cannot break out of where it stands.

/// Text in markup.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// JSON in a script element: it says the same, and cannot end the element.
pub(super) fn inert(json: &str) -> String {
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// A template whose places, `{{name}}`, are filled in. What was put in is not looked at again.
pub(super) struct Page<'a> {
    template: &'a str,
    parts: Vec<(&'a str, String)>,
}

impl<'a> Page<'a> {
    pub(super) fn new(template: &'a str) -> Self {
        Self { template, parts: Vec::new() }
    }

    pub(super) fn markup(mut self, name: &'a str, markup: &str) -> Self {
        self.parts.push((name, markup.to_owned()));
        self
    }

    pub(super) fn text(self, name: &'a str, text: &str) -> Self {
        let safe = escape(text);
        self.markup(name, &safe)
    }

    pub(super) fn finish(self) -> String {
        let mut page = String::new();
        let mut rest = self.template;
        while let Some((before, place)) = rest.split_once("{{") {
            page.push_str(before);
            let Some((name, after)) = place.split_once("}}") else { break };
            let part = self.parts.iter().find(|(known, _)| *known == name);
            debug_assert!(part.is_some(), "nothing to put into {name}");
            page.push_str(part.map_or("", |(_, markup)| markup));
            rest = after;
        }
        page.push_str(rest);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        assert_eq!(escape("<a & 'b\">"), "&lt;a &amp; &#39;b&quot;&gt;");
        let json = serde_json::to_string("</script><!--\u{2028}").expect("JSON");
        let safe = inert(&json);
        assert!(!safe.contains('<') && !safe.contains('\u{2028}'), "{safe}");
        let back: String = serde_json::from_str(&safe).expect("JSON");
        assert_eq!(back, "</script><!--\u{2028}");
    }

    #[test]
    fn what_was_put_in_is_not_looked_at_again() {
        let page = Page::new("<p>{{a}}</p>{{b}}").text("a", "{{b}}").markup("b", "<i>").finish();
        assert_eq!(page, "<p>{{b}}</p><i>");
    }
}
