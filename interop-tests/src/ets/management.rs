//! Steps of device management (LwM2M Core 1.1.1 §6.3): Read, Write, Write-Attributes.

use lwm2m_coap::Code;
use lwm2m_objects::Path;
use lwm2m_server::{Answer, Content, Direction, Operation, RequestError, Value, WriteMode};

use super::case::{Expected, Literal};
use super::registration::method;
use super::run::{Outcomes, Run, Stop};

impl Run<'_> {
    /// Reads, and judges the code, the format and the values.
    pub(crate) async fn read(
        &mut self,
        path: &'static str,
        format: Option<u16>,
        has: Expected,
        only: bool,
    ) -> Outcomes {
        if path.ends_with("/11/x") && self.is_1_0() {
            return Err(Stop::NotApplicable("LwM2M 1.0 cannot read a resource instance".to_owned()));
        }
        let path = self.resolve(path).await?;
        let content = self.content(path, format).await?;
        self.first_reads.entry(path).or_insert_with(|| content.items.clone());
        if let Some(format) = format {
            self.came_in(path, format).await?;
        }
        for (at, is) in has {
            let found =
                content.items.iter().find(|(found, value)| is_at(path, at, *found) && self.is(*is, value));
            if found.is_none() {
                return Err(Stop::failed(format!("{path}{at} with {is}"), list(&content)));
            }
        }
        if only && content.items.len() != has.len() {
            return Err(Stop::failed(format!("nothing but {path}"), list(&content)));
        }
        Ok(())
    }

    /// Judges the last GET of a path: it asked for a format, and the answer is in it.
    async fn came_in(&mut self, path: Path, format: u16) -> Outcomes {
        let text = path.to_string();
        let is_asked = |seen: &super::message::Seen| {
            seen.direction == Direction::ToDevice && seen.code == Code::GET && seen.path.ends_with(&text)
        };
        let (request, answer) = self.exchange(&format!("GET {path}"), is_asked).await?;
        if request.accept != Some(format) || answer.format != Some(format) {
            let seen = format!("Accept {:?}, answered in {:?}", request.accept, answer.format);
            return Err(Stop::failed(format!("2.05 in content format {format}"), seen));
        }
        Ok(())
    }

    /// A case may ask for resources that this device does not have.
    pub(crate) async fn needs(&mut self, path: &'static str) -> Outcomes {
        let path = self.resolve(path).await?;
        match self.ask(Operation::Read { path, format: None }).await {
            Ok(Answer::Content(content)) if !content.items.is_empty() => Ok(()),
            Err(RequestError::Refused((4, 4), _)) => {
                Err(Stop::NotApplicable(format!("the client has no {path}")))
            }
            Ok(_) => Err(Stop::NotApplicable(format!("{path} is empty"))),
            Err(error) => Err(Stop::failed(format!("2.05 to GET {path}"), error.to_string())),
        }
    }

    pub(crate) async fn write(
        &mut self,
        path: &'static str,
        mode: WriteMode,
        values: &[(&str, Literal)],
    ) -> Outcomes {
        let path = self.resolve(path).await?;
        let mut items = Vec::new();
        for (at, value) in values {
            let at =
                format!("{path}{at}").parse().map_err(|_| Stop::failed("a path", format!("{path}{at}")))?;
            let value = match *value {
                Literal::Integer(value) => Value::Integer(value),
                Literal::Boolean(value) => Value::Boolean(value),
                Literal::Text(value) => Value::String(value.to_owned()),
            };
            items.push((at, value));
        }
        self.put(path, mode, items).await
    }

    /// Writes back what the first Read showed.
    pub(crate) async fn restore(&mut self, path: &'static str, resources: &[u16]) -> Outcomes {
        let path = self.resolve(path).await?;
        let read = self.first_reads.get(&path).cloned().unwrap_or_default();
        let is_meant = |path: &Path| path.resource_id().is_some_and(|id| resources.contains(&id));
        let values = read.into_iter().filter(|(path, _)| is_meant(path)).collect();
        self.put(path, WriteMode::Update, values).await
    }

    async fn put(&mut self, path: Path, mode: WriteMode, values: Vec<(Path, Value)>) -> Outcomes {
        let outcome = self.ask(Operation::Write { path, mode, values }).await;
        let expected = || format!("2.04 to {} {path}", method(mode));
        outcome.map(drop).map_err(|error| Stop::failed(expected(), error.to_string()))
    }

    pub(crate) async fn attributes(&mut self, path: &'static str, query: &'static str) -> Outcomes {
        let path = self.resolve(path).await?;
        let outcome = self.ask(Operation::WriteAttributes { path, attributes: query.to_owned() }).await;
        let expected = || format!("2.04 to PUT {path}?{query}");
        outcome.map(drop).map_err(|error| Stop::failed(expected(), error.to_string()))
    }

    fn is_1_0(&self) -> bool {
        let register = self.registered.as_ref().map(|(request, _)| request);
        register.and_then(|request| request.parameter("lwm2m")) == Some("1.0")
    }
}

/// Whether `found` is the path at `at` below `path`; a segment `x` is any number.
fn is_at(path: Path, at: &str, found: Path) -> bool {
    let wanted = format!("{path}{at}");
    let found = found.to_string();
    let (wanted, found) = (wanted.split('/'), found.split('/'));
    wanted.clone().count() == found.clone().count()
        && wanted.zip(found).all(|(wanted, found)| wanted == "x" || wanted == found)
}

/// What came, in words.
fn list(content: &Content) -> String {
    match content.items.is_empty() {
        true => "nothing".to_owned(),
        false => {
            let items: Vec<String> =
                content.items.iter().map(|(path, value)| format!("{path}={value:?}")).collect();
            items.join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_x_below_the_path_stands_for_any_instance() {
        let device = Path::instance(3, 0);
        assert!(is_at(device, "/11/x", Path::resource_instance(3, 0, 11, 7)));
        assert!(is_at(Path::resource(3, 0, 16), "", Path::resource(3, 0, 16)));
        assert!(!is_at(device, "/11/x", Path::resource(3, 0, 11)));
        assert!(!is_at(device, "/16", Path::resource(3, 0, 1)));
    }
}
