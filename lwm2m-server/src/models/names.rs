//! The names that the OMA registry gives to the objects that are built in. Definitions themselves have none: they are in the flash of
//! devices too.
//!
//! Invariant: every object that is built in has one.

/// The name of an object that is built in; empty for another one.
pub(super) fn name(object: u16) -> &'static str {
    let found = NAMES.binary_search_by_key(&object, |(id, _)| *id).ok();
    found.and_then(|at| NAMES.get(at)).map_or("", |(_, name)| name)
}

/// Ascending by object.
const NAMES: &[(u16, &str)] = &[
    (0, "LWM2M Security"),
    (1, "LwM2M Server"),
    (2, "LwM2M Access Control"),
    (3, "Device"),
    (4, "Connectivity Monitoring"),
    (5, "Firmware Update"),
    (6, "Location"),
    (7, "Connectivity Statistics"),
    (9, "LWM2M Software Management"),
    (10, "LWM2M Cellular Connectivity"),
    (11, "LWM2M APN Connection Profile"),
    (12, "WLAN connectivity"),
    (13, "LWM2M Bearer Selection"),
    (16, "Portfolio"),
    (19, "BinaryAppDataContainer"),
    (20, "Event Log"),
    (21, "LWM2M OSCORE"),
    (3300, "Generic Sensor"),
    (3301, "Illuminance"),
    (3302, "Presence"),
    (3303, "Temperature"),
    (3304, "Humidity"),
    (3305, "Power Measurement"),
    (3306, "Actuation"),
    (3308, "Set Point"),
    (3310, "Load Control"),
    (3311, "Light Control"),
    (3312, "Power Control"),
    (3313, "Accelerometer"),
    (3314, "Magnetometer"),
    (3315, "Barometer"),
    (3316, "Voltage"),
    (3317, "Current"),
    (3318, "Frequency"),
    (3319, "Depth"),
    (3320, "Percentage"),
    (3321, "Altitude"),
    (3322, "Load"),
    (3323, "Pressure"),
    (3324, "Loudness"),
    (3325, "Concentration"),
    (3326, "Acidity"),
    (3327, "Conductivity"),
    (3328, "Power"),
    (3329, "Power Factor"),
    (3330, "Distance"),
    (3331, "Energy"),
    (3332, "Direction"),
    (3333, "Time"),
    (3334, "Gyrometer"),
    (3335, "Colour"),
    (3336, "Location"),
    (3337, "Positioner"),
    (3338, "Buzzer"),
    (3339, "Audio Clip"),
    (3340, "Timer"),
    (3341, "Addressable Text Display"),
    (3342, "On/Off switch"),
    (3343, "Dimmer"),
    (3344, "Up/Down Control"),
    (3345, "Multiple Axis Joystick"),
    (3346, "Rate"),
    (3347, "Push button"),
    (3348, "Multi-state Selector"),
    (3349, "Bitmap"),
    (3350, "Stopwatch"),
];

#[cfg(test)]
mod tests {
    use lwm2m_objects::defs;

    use super::*;

    #[test]
    fn every_object_that_is_built_in_has_the_name_of_the_registry() {
        assert!(NAMES.is_sorted_by_key(|(id, _)| *id));
        for definition in defs::ALL {
            assert_ne!(name(definition.id), "", "{}", definition.id);
        }
        assert_eq!(NAMES.len(), defs::ALL.len());
        assert_eq!((name(3), name(3350), name(9999)), ("Device", "Stopwatch", ""));
    }
}
