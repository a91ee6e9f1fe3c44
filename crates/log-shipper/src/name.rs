//! Names of groups and streams from templates, made safe for the service. Pure.

/// What a template can ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    pub hostname: String,
    /// Where the host is an EC2 instance.
    pub instance_id: Option<String>,
}

/// A name with `{hostname}`, `{instance_id}`, `{file}` or `{date}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(String);

const NAMES: [&str; 4] = ["instance_id", "hostname", "file", "date"];

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("{{{0}}} is none of {{instance_id}}, {{hostname}}, {{file}} and {{date}}")]
    Unknown(String),
    #[error("a brace is not closed")]
    Open,
    #[error("a name may not be empty")]
    Empty,
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        let mut rest = text;
        while let Some((_, behind)) = rest.split_once('{') {
            let (name, behind) = behind.split_once('}').ok_or(TemplateError::Open)?;
            if !NAMES.contains(&name) {
                return Err(TemplateError::Unknown(name.into()));
            }
            rest = behind;
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn asks_for(&self, name: &str) -> bool {
        self.0.contains(&format!("{{{name}}}"))
    }

    /// All but the date, which comes later. An instance id that is not known leaves the template as it is.
    pub fn of_source(&self, host: &Host, file: &str) -> Self {
        let mut text = self.0.replace("{hostname}", &host.hostname).replace("{file}", file);
        if let Some(id) = &host.instance_id {
            text = text.replace("{instance_id}", id);
        }
        Self(text)
    }

    pub fn on(&self, date: &str) -> String {
        self.0.replace("{date}", date)
    }
}

/// A log group's name: at most 512 of `[.\-_/#A-Za-z0-9]`; anything else becomes an underscore.
pub fn safe_group(name: &str) -> String {
    let safe = |char: char| if char.is_ascii_alphanumeric() || ".-_/#".contains(char) { char } else { '_' };
    name.chars().map(safe).take(512).collect()
}

/// A log stream's name: at most 512 characters, without `:`, `*` and control characters.
pub fn safe_stream(name: &str) -> String {
    let safe = |char: char| if char == ':' || char == '*' || char.is_control() { '_' } else { char };
    let mut safe: String = name.chars().map(safe).take(512).collect();
    // The limit may be one of bytes.
    safe.truncate(safe.floor_char_boundary(512));
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_and_made_safe() {
        let host = Host { hostname: "web:1".into(), instance_id: Some("i-1".into()) };
        let template = Template::parse("{instance_id}/{hostname}/{file}/{date}").unwrap();
        let name = template.of_source(&host, "a*.log").on("2026-11-26");
        assert_eq!(safe_stream(&name), "i-1/web_1/a_.log/2026-11-26");
        assert_eq!(safe_group("/acme/app one"), "/acme/app_one");
        assert_eq!(safe_stream(&"é".repeat(600)).len(), 512);
    }

    #[test]
    fn what_no_template_knows_is_refused() {
        assert_eq!(Template::parse("{ip}"), Err(TemplateError::Unknown("ip".into())));
        assert_eq!(Template::parse("a{file"), Err(TemplateError::Open));
        assert_eq!(Template::parse(""), Err(TemplateError::Empty));
    }
}
