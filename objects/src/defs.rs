//! Definitions of objects from the registry, one line for each resource (LwM2M Core 1.2.1 Appendix E; OMA registry).
//!
//! Invariant: a definition that a device does not use costs it nothing.

mod application;
mod connectivity;
mod core;
mod ipso;

pub use self::application::*;
pub use self::connectivity::*;
pub use self::core::*;
pub use self::ipso::*;

use crate::ObjectDef;

/// Returns the definition of an object that is known here.
pub fn definition(object: u16) -> Option<&'static ObjectDef> {
    ALL.iter().copied().find(|definition| definition.id == object)
}

/// Returns which resources of an object hold a secret, or what the registry calls key material; ascending. Nothing for an
/// object of which that is not known here.
///
/// ```
/// use lwm2m_objects::defs;
/// assert!(defs::secrets(0).unwrap().contains(&5));
/// assert_eq!(defs::secrets(3303), Some(&[][..]));
/// assert_eq!(defs::secrets(42769), None);
/// ```
pub fn secrets(object: u16) -> Option<&'static [u16]> {
    let holders = SECRETS.iter().find(|(holder, _)| *holder == object).map(|(_, resources)| *resources);
    let is_plain = || PLAIN.iter().any(|(first, last)| (*first..=*last).contains(&object));
    holders.or_else(|| is_plain().then_some(&[]))
}

/// Objects of the registry with the resources that hold secrets.
static SECRETS: &[(u16, &[u16])] = &[
    // Security: the identity or public key is public, but its length would tell what is in the field beside it.
    (0, &[3, 5, 7, 8]),
    // Software Management: the password of the package.
    (9, &[15]),
    // Cellular Connectivity: the activation code of the module.
    (10, &[2]),
    // APN Connection Profile.
    (11, &[6]),
    // WLAN Connectivity: keys, phrases and the secret for RADIUS.
    (12, &[17, 18, 21, 22, 23, 24, 25, 28]),
    // OSCORE: master secret and master salt.
    (21, &[0, 5]),
    // COSE.
    (23, &[2]),
    // MQTT Server.
    (24, &[8]),
    // Remote SIM Provisioning: the confirmation code.
    (504, &[17]),
    // Multicast group key.
    (3412, &[9]),
];

/// First and last of the objects of the registry that hold no secret.
static PLAIN: &[(u16, u16)] = &[
    (1, 8),
    (13, 16),
    (19, 20),
    (22, 22),
    (25, 28),
    (500, 503),
    (505, 511),
    (2048, 2057),
    (3200, 3203),
    (3300, 3350),
    (3411, 3411),
    (3417, 3417),
    (3435, 3435),
];

/// All definitions, ascending.
pub static ALL: &[&ObjectDef] = &[
    &SECURITY,
    &SERVER,
    &ACCESS_CONTROL,
    &DEVICE,
    &CONNECTIVITY_MONITORING,
    &FIRMWARE_UPDATE,
    &LOCATION,
    &CONNECTIVITY_STATISTICS,
    &SOFTWARE_MANAGEMENT,
    &CELLULAR_CONNECTIVITY,
    &APN_CONNECTION_PROFILE,
    &WLAN_CONNECTIVITY,
    &BEARER_SELECTION,
    &PORTFOLIO,
    &BINARY_APP_DATA_CONTAINER,
    &EVENT_LOG,
    &OSCORE,
    &GENERIC_SENSOR,
    &ILLUMINANCE,
    &PRESENCE,
    &TEMPERATURE,
    &HUMIDITY,
    &POWER_MEASUREMENT,
    &ACTUATION,
    &SET_POINT,
    &LOAD_CONTROL,
    &LIGHT_CONTROL,
    &POWER_CONTROL,
    &ACCELEROMETER,
    &MAGNETOMETER,
    &BAROMETER,
    &VOLTAGE,
    &CURRENT,
    &FREQUENCY,
    &DEPTH,
    &PERCENTAGE,
    &ALTITUDE,
    &LOAD,
    &PRESSURE,
    &LOUDNESS,
    &CONCENTRATION,
    &ACIDITY,
    &CONDUCTIVITY,
    &POWER,
    &POWER_FACTOR,
    &DISTANCE,
    &ENERGY,
    &DIRECTION,
    &TIME,
    &GYROMETER,
    &COLOUR,
    &IPSO_LOCATION,
    &POSITIONER,
    &BUZZER,
    &AUDIO_CLIP,
    &TIMER,
    &ADDRESSABLE_TEXT_DISPLAY,
    &ON_OFF_SWITCH,
    &DIMMER,
    &UP_DOWN_CONTROL,
    &MULTIPLE_AXIS_JOYSTICK,
    &RATE,
    &PUSH_BUTTON,
    &MULTI_STATE_SELECTOR,
    &BITMAP,
    &STOPWATCH,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_and_their_resources_ascend() {
        assert!(ALL.is_sorted_by_key(|definition| definition.id));
        for definition in ALL {
            assert!(definition.resources.is_sorted_by(|one, other| one.id < other.id), "{}", definition.id);
            assert!(definition.resources.iter().all(|resource| resource.range.0 <= resource.range.1));
            let executable = |resource: &crate::ResourceDef| resource.operations.is_executable();
            let nothing = |resource: &crate::ResourceDef| resource.kind == crate::Kind::Nothing;
            assert!(definition.resources.iter().all(|resource| executable(resource) == nothing(resource)));
        }
    }

    #[test]
    fn of_every_object_that_is_defined_it_is_known_what_is_secret() {
        assert!(ALL.iter().all(|definition| secrets(definition.id).is_some()));
        for (object, resources) in SECRETS {
            assert!(!resources.is_empty() && resources.is_sorted());
            assert!(PLAIN.iter().all(|(first, last)| !(*first..=*last).contains(object)), "{object}");
        }
        assert_eq!(secrets(9999), None);
    }

    /// Leshan 2.0.0-M14 writes the binding keys of a device without SMS as empty.
    #[test]
    fn the_sms_keys_of_an_account_may_be_empty() {
        for id in [7, 8] {
            let definition = SECURITY.resource(id).expect("a resource of Security");
            assert!(definition.holds(&crate::Value::Opaque(&[])), "{id}");
        }
    }
}
