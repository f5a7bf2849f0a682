//! Steps of device management (LwM2M Core 1.1.1 §6.3): Read, Write, Execute, Create, Delete, Write-Attributes.

use std::time::Duration;

use lwm2m_coap::Code;
use lwm2m_objects::Path;
use lwm2m_server::{Answer, Direction, Operation, RequestError, Value, WriteMode};
use tokio::time::Instant;

use super::bench::plain_value;
use super::case::{Asked, Expected, Is, Literal, Values};
use super::message::Seen;
use super::run::{Outcomes, Run, Stop, method};

/// How often a value is looked at that is to change.
const LOOK: Duration = Duration::from_millis(300);

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
        for (at, value) in &content.items {
            self.first_reads.entry(*at).or_insert_with(|| value.clone());
        }
        if let Some(format) = format {
            self.came_in(path, format).await?;
        }
        self.holds(&path.to_string(), &content.items, has, &[])?;
        if only && content.items.len() != has.len() {
            return Err(Stop::failed(format!("nothing but {path}"), list(&content.items)));
        }
        Ok(())
    }

    /// Judges the last GET of a path: it asked for a format, and the answer is in it; or it asked for none.
    async fn came_in(&mut self, path: Path, format: u16) -> Outcomes {
        let text = path.to_string();
        let is_asked = |seen: &Seen| {
            seen.direction == Direction::ToDevice && seen.code == Code::GET && seen.path.ends_with(&text)
        };
        let (request, answer) = self.exchange(&format!("GET {path}"), is_asked).await?;
        let wanted = (format != Operation::ANY_FORMAT).then_some(format);
        if request.accept != wanted || wanted.is_some() && answer.format != wanted {
            let seen = format!("Accept {:?}, answered in {:?}", request.accept, answer.format);
            return Err(Stop::failed(format!("2.05 in content format {format}"), seen));
        }
        Ok(())
    }

    /// Judges values: what must be there, at paths below `base`, and what may not.
    pub(crate) fn holds(
        &self,
        base: &str,
        items: &[(Path, Value)],
        has: Expected,
        lacks: &[&str],
    ) -> Outcomes {
        let instance = self.near.server_instance;
        let wanted = |at: &str| {
            let wanted = format!("{}{at}", base.trim_end_matches('/'));
            match (wanted.strip_prefix("/1/x"), instance) {
                (Some(rest), Some(instance)) => format!("/1/{instance}{rest}"),
                _ => wanted,
            }
        };
        for (at, is) in has {
            let wanted = wanted(at);
            let is_there =
                |(found, value): &(Path, Value)| is_at(&wanted, *found) && self.is(*is, *found, value);
            if !items.iter().any(is_there) {
                return Err(Stop::failed(format!("{wanted} with {is}"), list(items)));
            }
        }
        for at in lacks {
            let unwanted = wanted(at);
            let is_below =
                |(found, _): &(Path, Value)| format!("{found}/").starts_with(&format!("{unwanted}/"));
            if let Some((found, _)) = items.iter().find(|item| is_below(item)) {
                return Err(Stop::failed(format!("nothing of {unwanted}"), format!("{found}")));
            }
        }
        Ok(())
    }

    pub(crate) async fn becomes(&mut self, path: &'static str, is: Is, seconds: u64) -> Outcomes {
        let path = self.resolve(path).await?;
        let began = Instant::now();
        loop {
            // A device that restarts meanwhile is not there for a while.
            let last = match self.ask(Operation::Read { path, format: None }).await {
                Ok(Answer::Content(content)) => {
                    if content.items.iter().any(|(found, value)| self.is(is, *found, value)) {
                        return Ok(());
                    }
                    list(&content.items)
                }
                Ok(_) => "another answer".to_owned(),
                Err(error) => error.to_string(),
            };
            if began.elapsed() >= Duration::from_secs(seconds) {
                return Err(Stop::failed(format!("{path} with {is} within {seconds} s"), last));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Nothing that the device has sent so far has that value, neither an answer nor a notification.
    pub(crate) async fn never_shows(&mut self, path: &'static str, is: Is) -> Outcomes {
        let path = self.resolve(path).await?;
        self.catch_up().await;
        match has_shown(&self.near.log, path, |value| self.is(is, path, value)) {
            true => Err(Stop::failed(format!("never {path} with {is}"), "it had that value")),
            false => Ok(()),
        }
    }

    /// A case may ask for objects and resources that this device does not have.
    pub(crate) async fn needs(&mut self, path: &'static str) -> Outcomes {
        let path = self.resolve(path).await?;
        self.needs_object(path)?;
        if path.instance_id().is_none() {
            return Ok(());
        }
        match self.ask(Operation::Read { path, format: None }).await {
            Ok(Answer::Content(content)) if !content.items.is_empty() => Ok(()),
            Err(RequestError::Refused((4, 4), _)) => {
                Err(Stop::NotApplicable(format!("the client has no {path}")))
            }
            Ok(_) => Err(Stop::NotApplicable(format!("{path} is empty"))),
            Err(error) => Err(Stop::failed(format!("2.05 to GET {path}"), error.to_string())),
        }
    }

    fn needs_object(&self, path: Path) -> Outcomes {
        let objects = self.near.registered.as_ref().map(|registered| &registered.objects);
        let is_listed =
            objects.is_none_or(|objects| objects.iter().any(|other| other.object_id() == path.object_id()));
        match (is_listed, path.object_id()) {
            (false, Some(object)) => Err(Stop::NotApplicable(format!("the client has no /{object}"))),
            _ => Ok(()),
        }
    }

    pub(crate) async fn needs_value(&mut self, path: &'static str, is: Is, reason: &'static str) -> Outcomes {
        self.needs(path).await?;
        let path = self.resolve(path).await?;
        let content = self.content(path, None).await?;
        match content.items.iter().any(|(found, value)| self.is(is, *found, value)) {
            true => Ok(()),
            false => Err(Stop::NotApplicable(reason.to_owned())),
        }
    }

    /// Creates an instance where it is missing.
    pub(crate) async fn ensure(&mut self, object: u16, instance: u16, values: Values) -> Outcomes {
        let path = Path::instance(object, instance);
        self.needs_object(path)?;
        match self.ask(Operation::Read { path, format: None }).await {
            Ok(Answer::Content(content)) if !content.items.is_empty() => Ok(()),
            _ => self.create(object, instance, values).await,
        }
    }

    /// Server defaults of notification attributes stay out of what is judged; not every device has them.
    pub(crate) async fn calm(&mut self) -> Outcomes {
        for resource in [2, 3] {
            let path = self.resolve(&format!("/1/x/{resource}")).await?;
            let values = vec![(path, Value::Integer(0))];
            let write = Operation::Write { path, mode: WriteMode::Replace, values, format: None };
            match self.ask(write).await {
                Ok(_) | Err(RequestError::Refused(..)) => {}
                Err(error) => {
                    return Err(Stop::failed(format!("an answer to PUT {path}"), error.to_string()));
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn write(
        &mut self,
        path: &'static str,
        mode: WriteMode,
        values: Values,
        format: Option<u16>,
    ) -> Outcomes {
        let path = self.resolve(path).await?;
        let values = self.values_at(path, values)?;
        self.put(path, mode, values, format).await
    }

    pub(crate) async fn offer(&mut self, path: &'static str, values: Values) -> Outcomes {
        let path = self.resolve(path).await?;
        let values = self.values_at(path, values)?;
        let write = Operation::Write { path, mode: WriteMode::Replace, values, format: None };
        match self.ask(write).await {
            Ok(_) | Err(RequestError::Refused(..)) => Ok(()),
            Err(error) => Err(Stop::failed(format!("an answer to PUT {path}"), error.to_string())),
        }
    }

    pub(crate) async fn write_composite(&mut self, values: Values) -> Outcomes {
        if self.is_1_0() {
            return Err(composite_of_1_0());
        }
        let mut items = Vec::new();
        for (at, value) in values {
            items.push((self.resolve(at).await?, self.value(*value)?));
        }
        let outcome = self.ask(Operation::WriteComposite { values: items }).await;
        outcome.map(drop).map_err(|error| Stop::failed("2.04 to iPATCH", error.to_string()))
    }

    pub(crate) async fn read_composite(
        &mut self,
        paths: &[&'static str],
        has: Expected,
        lacks: &[&str],
    ) -> Outcomes {
        let paths = self.resolve_all(paths).await?;
        match self.ask(Operation::ReadComposite { paths, format: None }).await {
            Ok(Answer::Content(content)) => self.holds("", &content.items, has, lacks),
            Ok(_) => Err(Stop::failed("2.05 to FETCH", "another answer")),
            Err(error) => Err(Stop::failed("2.05 to FETCH", error.to_string())),
        }
    }

    /// The paths of a composite operation.
    pub(crate) async fn resolve_all(&mut self, paths: &[&'static str]) -> Outcomes<Vec<Path>> {
        if self.is_1_0() {
            return Err(composite_of_1_0());
        }
        let mut resolved = Vec::new();
        for path in paths {
            resolved.push(self.resolve(path).await?);
        }
        Ok(resolved)
    }

    /// Writes back what the first Read showed.
    pub(crate) async fn restore(
        &mut self,
        path: &'static str,
        resources: &[u16],
        mode: WriteMode,
    ) -> Outcomes {
        let path = self.resolve(path).await?;
        let is_meant = |at: &Path| {
            at.starts_with(path)
                && (path.resource_id().is_some()
                    || at.resource_id().is_some_and(|id| resources.contains(&id)))
        };
        let first = self.first_reads.iter().filter(|(at, _)| is_meant(at));
        let mut values: Vec<(Path, Value)> = first.map(|(at, value)| (*at, value.clone())).collect();
        values.sort_by_key(|(at, _)| *at);
        self.put(path, mode, values, None).await
    }

    async fn put(
        &mut self,
        path: Path,
        mode: WriteMode,
        values: Vec<(Path, Value)>,
        format: Option<u16>,
    ) -> Outcomes {
        let outcome = self.ask(Operation::Write { path, mode, values, format }).await;
        let expected = || format!("2.04 to {} {path}", method(mode));
        outcome.map(drop).map_err(|error| Stop::failed(expected(), error.to_string()))
    }

    pub(crate) async fn execute(&mut self, path: &'static str, is_optional: bool) -> Outcomes {
        let path = self.resolve(path).await?;
        match self.ask(Operation::Execute { path, arguments: String::new() }).await {
            Ok(_) => Ok(()),
            Err(RequestError::Refused((4, 4 | 5), _)) if is_optional => {
                Err(Stop::NotApplicable(format!("the client has no {path}, which is optional")))
            }
            Err(error) => Err(Stop::failed(format!("2.04 to POST {path}"), error.to_string())),
        }
    }

    pub(crate) async fn create(&mut self, object: u16, instance: u16, values: Values) -> Outcomes {
        let path = Path::instance(object, instance);
        let values = self.values_at(path, values)?;
        let values = values
            .into_iter()
            .filter_map(|(at, value)| Some((at.resource_id()?, at.resource_instance_id(), value)))
            .collect();
        match self.ask(Operation::Create { object, instance: Some(instance), values }).await {
            Ok(Answer::Created(created)) if created.is_none_or(|created| created == path) => Ok(()),
            Ok(Answer::Created(created)) => {
                let seen = created.map(|path| path.to_string()).unwrap_or_default();
                Err(Stop::failed(format!("2.01 with the location {path}"), seen))
            }
            Ok(_) => Err(Stop::failed(format!("2.01 to POST /{object}"), "another answer")),
            Err(error) => Err(Stop::failed(format!("2.01 to POST /{object}"), error.to_string())),
        }
    }

    pub(crate) async fn delete(&mut self, path: &'static str) -> Outcomes {
        let path = self.resolve(path).await?;
        self.remove(path).await
    }

    pub(crate) async fn delete_all(&mut self, object: u16) -> Outcomes {
        let path = Path::object(object);
        let links = self.links(path).await?;
        let instances = links.iter().filter_map(|(target, _)| {
            target
                .parse::<Path>()
                .ok()
                .filter(|path| path.instance_id().is_some() && path.resource_id().is_none())
        });
        for instance in instances.collect::<Vec<_>>() {
            self.remove(instance).await?;
        }
        Ok(())
    }

    async fn remove(&mut self, path: Path) -> Outcomes {
        let outcome = self.ask(Operation::Delete { path }).await;
        outcome.map(drop).map_err(|error| Stop::failed(format!("2.02 to DELETE {path}"), error.to_string()))
    }

    /// A request that must be refused.
    pub(crate) async fn refuses(&mut self, asked: Asked, codes: &[(u8, u8)]) -> Outcomes {
        let operation = match asked {
            Asked::Read(path) => Operation::Read { path: self.resolve(path).await?, format: None },
            Asked::Write(path, mode, values) => {
                let path = self.resolve(path).await?;
                Operation::Write { path, mode, values: self.values_at(path, values)?, format: None }
            }
            Asked::Attributes(path, query) => {
                Operation::WriteAttributes { path: self.resolve(path).await?, attributes: query.to_owned() }
            }
            Asked::Create(object) => Operation::Create { object, instance: None, values: Vec::new() },
            Asked::Delete(path) => Operation::Delete { path: self.resolve(path).await? },
            Asked::Execute(path) => {
                Operation::Execute { path: self.resolve(path).await?, arguments: String::new() }
            }
        };
        let expected = || {
            let codes: Vec<String> =
                codes.iter().map(|(class, detail)| format!("{class}.{detail:02}")).collect();
            format!("{} to {asked}", codes.join(" or "))
        };
        match self.ask(operation).await {
            Err(RequestError::Refused(code, _)) if codes.contains(&code) => Ok(()),
            Err(error) => Err(Stop::failed(expected(), error.to_string())),
            Ok(_) => Err(Stop::failed(expected(), "a success")),
        }
    }

    pub(crate) async fn attributes(&mut self, path: &'static str, query: &'static str) -> Outcomes {
        let path = self.resolve(path).await?;
        let outcome = self.ask(Operation::WriteAttributes { path, attributes: query.to_owned() }).await;
        let expected = || format!("2.04 to PUT {path}?{query}");
        outcome.map(drop).map_err(|error| Stop::failed(expected(), error.to_string()))
    }

    /// Literals as values at a path.
    fn values_at(&self, path: Path, values: Values) -> Outcomes<Vec<(Path, Value)>> {
        let at = |below: &str| {
            let text = format!("{path}{below}");
            text.parse().map_err(|_| Stop::failed("a path", text))
        };
        values.iter().map(|(below, value)| Ok((at(below)?, self.value(*value)?))).collect()
    }

    fn value(&self, literal: Literal) -> Outcomes<Value> {
        let missing = |image: super::case::Image| {
            let name = image.name();
            Stop::NotApplicable(format!("no firmware image for it is given: --firmware {name}=FILE"))
        };
        match literal {
            Literal::Image(image) => {
                let bytes = self.images.get(&image).ok_or_else(|| missing(image))?;
                Ok(Value::Opaque(bytes.to_vec()))
            }
            Literal::ImageUri(image, offer) => match self.images.contains_key(&image) {
                true => Ok(Value::String(self.depot.uri(image.name(), offer))),
                false => Err(missing(image)),
            },
            other => plain_value(other).ok_or_else(|| Stop::failed("a value", other.to_string())),
        }
    }

    pub(crate) fn is_1_0(&self) -> bool {
        let register = self.near.registered.as_ref().map(|registered| &registered.request);
        register.and_then(|request| request.parameter("lwm2m")) == Some("1.0")
    }

    /// Whether a value is what a case asks for.
    pub(crate) fn is(&self, is: Is, at: Path, value: &Value) -> bool {
        let number = match value {
            Value::Integer(number) | Value::Time(number) => Some(*number),
            Value::Unsigned(number) => i64::try_from(*number).ok(),
            _ => None,
        };
        match is {
            Is::There => true,
            Is::Text => matches!(value, Value::String(text) if !text.is_empty()),
            Is::Number => number.is_some(),
            Is::Float => number.is_some() || matches!(value, Value::Float(_)),
            Is::Flag => matches!(value, Value::Boolean(_)),
            Is::Bytes => matches!(value, Value::Opaque(_)),
            Is::Link => matches!(value, Value::ObjectLink(..)),
            Is::Lifetime => number == Some(i64::from(self.lifetime)),
            Is::Unchanged => self.first_reads.get(&at) == Some(value),
            Is::Changed => self.first_reads.get(&at).is_some_and(|first| first != value),
            Is::From(time) => {
                number.is_some_and(|number| (time..=time.saturating_add(120)).contains(&number))
            }
            Is::OneOf(values) => number.is_some_and(|number| values.contains(&number)),
            Is::AtLeast(least) => number.is_some_and(|number| number >= least),
            Is::Exactly(Literal::Integer(exactly) | Literal::Time(exactly)) => number == Some(exactly),
            Is::Exactly(exactly) => plain_value(exactly).as_ref() == Some(value),
        }
    }
}

fn composite_of_1_0() -> Stop {
    Stop::NotApplicable("LwM2M 1.0 has no composite operations".to_owned())
}

/// Whether the device sent such a value of a resource, in an answer or in a notification.
fn has_shown(log: &[Seen], path: Path, is: impl Fn(&Value) -> bool) -> bool {
    let sent = log.iter().filter(|seen| seen.direction == Direction::FromDevice);
    sent.flat_map(|seen| &seen.values).any(|(at, value)| *at == path && value.as_ref().is_some_and(&is))
}

/// Whether `found` is the path that is wanted; a segment `x` is any number.
pub(crate) fn is_at(wanted: &str, found: Path) -> bool {
    let found = found.to_string();
    let (wanted, found) = (wanted.split('/'), found.split('/'));
    wanted.clone().count() == found.clone().count()
        && wanted.zip(found).all(|(wanted, found)| wanted == "x" || wanted == found)
}

/// What came, in words.
pub(crate) fn list(items: &[(Path, Value)]) -> String {
    match items.is_empty() {
        true => "nothing".to_owned(),
        false => {
            let items: Vec<String> = items.iter().map(|(path, value)| format!("{path}={value:?}")).collect();
            items.join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use lwm2m_server::credentials::Role;
    use lwm2m_server::endpoint::Watcher;

    use super::*;

    #[test]
    fn a_state_that_was_only_notified_was_there() {
        let mut watcher = Watcher::new("device", false);
        let mut log = Vec::new();
        let mut see = |direction, bytes: &[u8]| {
            log.extend(Seen::read(&watcher.see(0, Role::Management, direction, bytes)));
            has_shown(&log, Path::resource(5, 0, 3), |value| *value == Value::Integer(2))
        };
        // GET /5/0/3 with Observe 0; 2.05 with Observe 1, in text; and the same as a notification.
        assert!(!see(Direction::ToDevice, b"\x41\x01\0\x01\x07\x60\x515\x010\x013"));
        assert!(!see(Direction::FromDevice, b"\x61\x45\0\x01\x07\x61\x01\x60\xff1"));
        assert!(see(Direction::FromDevice, b"\x51\x45\0\x02\x07\x61\x02\x60\xff2"));
        assert!(see(Direction::FromDevice, b"\x51\x45\0\x03\x07\x61\x03\x60\xff0"), "and stays so");
    }

    #[test]
    fn an_x_in_what_is_wanted_stands_for_any_instance() {
        assert!(is_at("/3/0/11/x", Path::resource_instance(3, 0, 11, 7)));
        assert!(is_at("/3/0/16", Path::resource(3, 0, 16)));
        assert!(!is_at("/3/0/11/x", Path::resource(3, 0, 11)));
        assert!(!is_at("/3/0/16", Path::resource(3, 0, 1)));
    }
}
