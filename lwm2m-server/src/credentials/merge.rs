//! What a bootstrap of one device follows where several say something: its own departures win over its profile, and that over what the
//! server is configured to.

use super::device::Profile;
use super::facade::{Retry, Settings};
use crate::profiles::{Body, Discover, Filled};

/// What is left when all have spoken.
pub(super) struct Merged {
    pub(super) server_uri: String,
    pub(super) server_uri_nosec: String,
    pub(super) lifetime: u32,
    pub(super) binding: String,
    pub(super) notification_storing: bool,
    pub(super) certificate_usage: Option<u8>,
    pub(super) security_instance: u16,
    pub(super) server_instance: u16,
    pub(super) retry: Retry,
    pub(super) is_blind: bool,
    pub(super) write_time: bool,
    pub(super) verify: bool,
}

impl Merged {
    pub(super) fn of(departures: &Profile, filled: Option<&Filled>, settings: &Settings) -> Self {
        let none = Body::default();
        let body = filled.map_or(&none, |filled| &filled.version.body);
        let uri = |of: fn(&Filled) -> &Option<String>| filled.and_then(|filled| of(filled).clone());
        let binding = departures.binding.as_ref().or(body.binding.as_ref()).unwrap_or(&settings.binding);
        let (retry, configured) = (body.retry, settings.retry);
        Self {
            server_uri: departures
                .server_uri
                .clone()
                .or_else(|| uri(|filled| &filled.server_uri))
                .unwrap_or_else(|| settings.server_uri.clone()),
            server_uri_nosec: uri(|filled| &filled.server_uri_nosec)
                .unwrap_or_else(|| settings.server_uri_nosec.clone()),
            lifetime: departures.lifetime.or(body.lifetime).unwrap_or(settings.lifetime),
            binding: binding.clone(),
            notification_storing: departures
                .notification_storing
                .or(body.notification_storing)
                .unwrap_or(settings.notification_storing),
            certificate_usage: usage(departures, Some(body)),
            security_instance: departures.security_instance.or(body.security_instance).unwrap_or(1),
            server_instance: departures.server_instance.or(body.server_instance).unwrap_or(0),
            retry: Retry {
                count: retry.count.or(configured.count),
                timer: retry.timer.or(configured.timer),
                sequence_delay: retry.sequence_delay.or(configured.sequence_delay),
                sequence_count: retry.sequence_count.or(configured.sequence_count),
            },
            is_blind: is_blind(departures, body),
            write_time: body.quirks.write_time.unwrap_or(settings.write_time),
            verify: body.quirks.verify.unwrap_or(settings.verify),
        }
    }
}

/// Certificate Usage, if somebody says.
pub(super) fn usage(departures: &Profile, body: Option<&Body>) -> Option<u8> {
    departures.certificate_usage.or(body.and_then(|body| body.certificate_usage))
}

/// Whether it is written without a Discover.
pub(super) fn is_blind(departures: &Profile, body: &Body) -> bool {
    departures.write_blind.unwrap_or(body.discover == Discover::Never)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "test")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::profiles::{Given, Secrets, Variables, Version};

    #[test]
    fn a_device_wins_over_its_profile_and_that_over_the_configuration() {
        let body: Body = serde_json::from_value(serde_json::json!({
            "server_uri": "coaps://${endpoint}.example", "server_uri_nosec": "coap://profile.example",
            "lifetime": 60, "binding": "UQ", "notification_storing": false, "certificate_usage": 1,
            "security_instance": 5, "server_instance": 6, "retry": { "count": 7 }, "discover": "never",
            "quirks": { "verify": true, "write_time": true },
        }))
        .unwrap();
        let settings = Settings {
            retry: Retry { count: Some(1), timer: Some(2), ..Retry::default() },
            ..Settings::default()
        };
        let version = Arc::new(Version::check(body, &Default::default(), 1).unwrap());
        let given = Given { endpoint: "m-1", variables: &Variables::new(), secrets: &Secrets::default() };
        let filled = Filled::new(&version, &given, &settings).unwrap();
        let departures = Profile {
            server_uri: Some("coaps://own.example".to_owned()),
            lifetime: Some(9),
            binding: Some("U".to_owned()),
            notification_storing: Some(true),
            write_blind: Some(false),
            security_instance: Some(2),
            server_instance: Some(3),
            certificate_usage: Some(0),
        };
        let numbers = |merged: &Merged| {
            (
                (merged.lifetime, merged.certificate_usage, merged.security_instance, merged.server_instance),
                (merged.notification_storing, merged.is_blind, merged.write_time, merged.verify),
                (merged.retry.count, merged.retry.timer),
            )
        };

        let configured = Merged::of(&Profile::default(), None, &settings);
        assert_eq!(
            numbers(&configured),
            ((86_400, None, 1, 0), (true, false, false, false), (Some(1), Some(2)))
        );
        assert_eq!((&configured.server_uri, &configured.binding), (&settings.server_uri, &settings.binding));

        let named = Merged::of(&Profile::default(), Some(&filled), &settings);
        assert_eq!(numbers(&named), ((60, Some(1), 5, 6), (false, true, true, true), (Some(7), Some(2))));
        assert_eq!(named.server_uri, "coaps://m-1.example");
        assert_eq!(
            (named.server_uri_nosec.as_str(), named.binding.as_str()),
            ("coap://profile.example", "UQ")
        );

        let own = Merged::of(&departures, Some(&filled), &settings);
        assert_eq!(numbers(&own), ((9, Some(0), 2, 3), (true, false, true, true), (Some(7), Some(2))));
        assert_eq!((own.server_uri.as_str(), own.binding.as_str()), ("coaps://own.example", "U"));
    }
}
