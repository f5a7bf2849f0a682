//! Sensors and controls (OMA registry, 3300 to 3350: objects of the former IPSO Alliance).
//!
//! Invariant: the tables are those of the registry.

use crate::object;

/// Sensors of one number with its bounds and its unit.
macro_rules! sensors {
    ($($(#[$doc:meta])* $name:ident = $id:literal;)*) => {
        $(object! {
            $(#[$doc])*
            pub $name = $id version 1.1, multiple, optional {
                5518 R  S O Time;
                5601 R  S O Float;
                5602 R  S O Float;
                5603 R  S O Float;
                5604 R  S O Float;
                5605 E  S O Nothing;
                5700 R  S M Float;
                5701 R  S O String;
                5750 RW S O String;
                6042 R  S O Integer in 0, 23;
                6049 R  S O Integer in 0, 100;
                6050 R  S O Float in 0, 1;
            }
        })*
    };
}

/// The same with a calibration.
macro_rules! calibrated_sensors {
    ($($(#[$doc:meta])* $name:ident = $id:literal;)*) => {
        $(object! {
            $(#[$doc])*
            pub $name = $id version 1.1, multiple, optional {
                5518 R  S O Time;
                5601 R  S O Float;
                5602 R  S O Float;
                5603 R  S O Float;
                5604 R  S O Float;
                5605 E  S O Nothing;
                5700 R  S M Float;
                5701 R  S O String;
                5750 RW S O String;
                5821 RW S O Float;
                6042 R  S O Integer in 0, 23;
                6049 R  S O Integer in 0, 100;
                6050 R  S O Float in 0, 1;
            }
        })*
    };
}

sensors! {
    /// Illuminance: a light sensor.
    ILLUMINANCE = 3301;
    /// Temperature.
    TEMPERATURE = 3303;
    /// Humidity.
    HUMIDITY = 3304;
    /// Barometer: the pressure of the air.
    BAROMETER = 3315;
}

calibrated_sensors! {
    /// Voltage.
    VOLTAGE = 3316;
    /// Current.
    CURRENT = 3317;
    /// Frequency.
    FREQUENCY = 3318;
    /// Depth.
    DEPTH = 3319;
    /// Percentage: how much of something there is.
    PERCENTAGE = 3320;
    /// Altitude.
    ALTITUDE = 3321;
    /// Load: a weight or force.
    LOAD = 3322;
    /// Pressure.
    PRESSURE = 3323;
    /// Loudness.
    LOUDNESS = 3324;
    /// Concentration: of a substance in another.
    CONCENTRATION = 3325;
    /// Acidity: a pH.
    ACIDITY = 3326;
    /// Conductivity.
    CONDUCTIVITY = 3327;
    /// Power.
    POWER = 3328;
    /// Power Factor.
    POWER_FACTOR = 3329;
    /// Distance.
    DISTANCE = 3330;
    /// Rate.
    RATE = 3346;
}

object! {
    /// Generic Sensor: a number of something that no other object measures.
    pub GENERIC_SENSOR = 3300 version 1.1, multiple, optional {
        5518 R  S O Time;
        5601 R  S O Float;
        5602 R  S O Float;
        5603 R  S O Float;
        5604 R  S O Float;
        5605 E  S O Nothing;
        5700 R  S M Float;
        5701 R  S O String;
        5750 RW S O String;
        5751 R  S O String;
        6042 R  S O Integer in 0, 23;
        6049 R  S O Integer in 0, 100;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Presence: whether somebody is there.
    pub PRESENCE = 3302 version 1.1, multiple, optional {
        5500 R  S M Boolean;
        5501 R  S O Integer;
        5505 E  S O Nothing;
        5518 R  S O Time;
        5750 RW S O String;
        5751 R  S O String;
        5903 RW S O Integer;
        5904 RW S O Integer;
        6042 R  S O Integer in 0, 23;
        6049 R  S O Integer in 0, 100;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Power Measurement: active and reactive power, with energy, factor and current.
    pub POWER_MEASUREMENT = 3305 version 1.1, multiple, optional {
        5518 R  S O Time;
        5605 E  S O Nothing;
        5750 RW S O String;
        5800 R  S M Float;
        5801 R  S O Float;
        5802 R  S O Float;
        5803 R  S O Float;
        5804 R  S O Float;
        5805 R  S O Float;
        5806 W  S O Float;
        5810 R  S O Float;
        5811 R  S O Float;
        5812 R  S O Float;
        5813 R  S O Float;
        5814 R  S O Float;
        5815 R  S O Float;
        5816 W  S O Float;
        5820 R  S O Float;
        5821 RW S O Float;
        5822 E  S O Nothing;
        6042 R  S O Integer in 0, 23;
        6049 R  S O Integer in 0, 100;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Actuation: switches something on and off.
    pub ACTUATION = 3306 version 1.1, multiple, optional {
        5518 R  S O Time;
        5750 RW S O String;
        5850 RW S M Boolean;
        5851 RW S O Integer in 0, 100;
        5852 RW S O Integer;
        5853 RW S O String;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Set Point: the value that something is to keep.
    pub SET_POINT = 3308 version 1.1, multiple, optional {
        5518 R  S O Time;
        5701 R  S O String;
        5706 RW S O String;
        5750 RW S O String;
        5900 RW S M Float;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Load Control: a demand response event.
    pub LOAD_CONTROL = 3310 version 1.1, multiple, optional {
        5518 R  S O Time;
        5750 RW S O String;
        5823 RW S M String;
        5824 RW S M Time;
        5825 RW S M Integer;
        5826 RW S O Integer in 0, 3;
        5827 RW S O Integer in 0, 100;
        5828 RW S O Integer in 0, 100;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Light Control: a lamp.
    pub LIGHT_CONTROL = 3311 version 1.0, multiple, optional {
        5701 R  S O String;
        5706 RW S O String;
        5750 RW S O String;
        5805 R  S O Float;
        5820 R  S O Float;
        5850 RW S M Boolean;
        5851 RW S O Integer in 0, 100;
        5852 RW S O Integer;
    }
}

object! {
    /// Power Control: a socket.
    pub POWER_CONTROL = 3312 version 1.1, multiple, optional {
        5518 R  S O Time;
        5750 RW S O String;
        5805 R  S O Float;
        5820 R  S O Float;
        5850 RW S M Boolean;
        5851 RW S O Integer in 0, 100;
        5852 RW S O Integer;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Accelerometer: acceleration along up to three axes.
    pub ACCELEROMETER = 3313 version 1.1, multiple, optional {
        5518 R  S O Time;
        5603 R  S O Float;
        5604 R  S O Float;
        5701 R  S O String;
        5702 R  S M Float;
        5703 R  S O Float;
        5704 R  S O Float;
        5750 RW S O String;
        6042 R  S O Integer in 0, 23;
        6049 R  S O Integer in 0, 100;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Magnetometer: a magnetic field along up to three axes.
    pub MAGNETOMETER = 3314 version 1.1, multiple, optional {
        5518 R  S O Time;
        5701 R  S O String;
        5702 R  S M Float;
        5703 R  S O Float;
        5704 R  S O Float;
        5705 R  S O Float in 0, 360;
        5750 RW S O String;
        6042 R  S O Integer in 0, 23;
        6049 R  S O Integer in 0, 100;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Energy: a meter of energy.
    pub ENERGY = 3331 version 1.1, multiple, optional {
        5518 R  S O Time;
        5700 R  S M Float;
        5701 R  S O String;
        5750 RW S O String;
        5822 E  S O Nothing;
        6042 R  S O Integer in 0, 23;
        6049 R  S O Integer in 0, 100;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Direction: a compass.
    pub DIRECTION = 3332 version 1.1, multiple, optional {
        5518 R  S O Time;
        5601 R  S O Float;
        5602 R  S O Float;
        5605 E  S O Nothing;
        5705 R  S M Float in 0, 360;
        5750 RW S O String;
        6042 R  S O Integer in 0, 23;
        6049 R  S O Integer in 0, 100;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Time: a clock.
    pub TIME = 3333 version 1.1, multiple, optional {
        5506 RW S M Time;
        5507 RW S O Float in 0, 1;
        5750 RW S O String;
        6042 R  S O Integer in 0, 23;
        6049 R  S O Integer in 0, 100;
    }
}

object! {
    /// Gyrometer: rotation around up to three axes.
    pub GYROMETER = 3334 version 1.1, multiple, optional {
        5508 R  S O Float;
        5509 R  S O Float;
        5510 R  S O Float;
        5511 R  S O Float;
        5512 R  S O Float;
        5513 R  S O Float;
        5518 R  S O Time;
        5603 R  S O Float;
        5604 R  S O Float;
        5605 E  S O Nothing;
        5701 R  S O String;
        5702 R  S M Float;
        5703 R  S O Float;
        5704 R  S O Float;
        5750 RW S O String;
        6042 R  S O Integer in 0, 23;
        6049 R  S O Integer in 0, 100;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Colour: the colour of something.
    pub COLOUR = 3335 version 1.1, multiple, optional {
        5518 R  S O Time;
        5701 R  S O String;
        5706 RW S M String;
        5750 RW S O String;
        6042 R  S O Integer in 0, 23;
        6049 R  S O Integer in 0, 100;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Location: where something is.
    pub IPSO_LOCATION = 3336 version 2.0, multiple, optional {
        5517 R  S O Opaque;
        5518 R  S O Time;
        5705 R  S O Float in 0, 360;
        5750 RW S O String;
        6042 R  S O Integer in 0, 23;
        6049 R  S O Integer in 0, 100;
        6050 R  S O Float in 0, 1;
        6051 R  S M Float;
        6052 R  S M Float;
        6053 R  S O Float;
    }
}

object! {
    /// Positioner: moves something between two ends.
    pub POSITIONER = 3337 version 1.1, multiple, optional {
        5518 R  S O Time;
        5519 R  S O Float;
        5520 R  S O Float;
        5536 RW S M Float in 0, 100;
        5537 RW S O Float;
        5538 R  S O Float;
        5601 R  S O Float;
        5602 R  S O Float;
        5605 E  S O Nothing;
        5750 RW S O String;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Buzzer: makes a noise.
    pub BUZZER = 3338 version 1.1, multiple, optional {
        5518 R  S O Time;
        5521 RW S O Float;
        5525 RW S M Float;
        5548 RW S O Float in 0, 100;
        5750 RW S O String;
        5850 RW S M Boolean;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Audio Clip: plays a sound.
    pub AUDIO_CLIP = 3339 version 1.0, multiple, optional {
        5522 RW S M Opaque;
        5523 E  S O Nothing;
        5524 RW S O Float;
        5548 RW S O Float in 0, 100;
        5750 RW S O String;
    }
}

object! {
    /// Timer: an output that is on for a time.
    pub TIMER = 3340 version 1.0, multiple, optional {
        5501 R  S O Integer;
        5521 RW S M Float;
        5523 E  S O Nothing;
        5525 RW S O Float;
        5526 RW S O Integer in 0, 4;
        5534 RW S O Integer;
        5538 R  S O Float;
        5543 R  S O Boolean;
        5544 RW S O Float;
        5750 RW S O String;
        5850 RW S O Boolean;
    }
}

object! {
    /// Addressable Text Display: shows a text.
    pub ADDRESSABLE_TEXT_DISPLAY = 3341 version 1.0, multiple, optional {
        5527 RW S M String;
        5528 RW S O Integer;
        5529 RW S O Integer;
        5530 E  S O Nothing;
        5531 RW S O Float in 0, 100;
        5545 R  S O Integer;
        5546 R  S O Integer;
        5548 RW S O Float in 0, 100;
        5750 RW S O String;
    }
}

object! {
    /// On/Off switch: a switch that stays as it is put.
    pub ON_OFF_SWITCH = 3342 version 1.1, multiple, optional {
        5500 R  S M Boolean;
        5501 R  S O Integer;
        5518 R  S O Time;
        5750 RW S O String;
        5852 RW S O Integer;
        5854 RW S O Integer;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Dimmer: a knob.
    pub DIMMER = 3343 version 1.0, multiple, optional {
        5548 RW S M Float in 0, 100;
        5750 RW S O String;
        5852 RW S O Integer;
        5854 RW S O Integer;
    }
}

object! {
    /// Up/Down Control: two buttons.
    pub UP_DOWN_CONTROL = 3344 version 1.0, multiple, optional {
        5532 R  S M Boolean;
        5533 R  S M Boolean;
        5541 RW S O Integer;
        5542 RW S O Integer;
        5750 RW S O String;
    }
}

object! {
    /// Multiple Axis Joystick: a lever with up to three axes.
    pub MULTIPLE_AXIS_JOYSTICK = 3345 version 1.0, multiple, optional {
        5500 R  S O Boolean;
        5501 R  S O Integer;
        5702 R  S O Float;
        5703 R  S O Float;
        5704 R  S O Float;
        5750 RW S O String;
    }
}

object! {
    /// Push button: on while it is pressed.
    pub PUSH_BUTTON = 3347 version 1.1, multiple, optional {
        5500 R  S M Boolean;
        5501 R  S O Integer;
        5518 R  S O Time;
        5750 RW S O String;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Multi-state Selector: a switch with several positions.
    pub MULTI_STATE_SELECTOR = 3348 version 1.1, multiple, optional {
        5518 R  S O Time;
        5547 R  S M Integer;
        5750 RW S O String;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Bitmap: the states of several inputs in one number.
    pub BITMAP = 3349 version 1.1, multiple, optional {
        5518 R  S O Time;
        5750 RW S O String;
        5910 R  S M Integer;
        5911 E  S O Nothing;
        5912 RW M O String;
        6050 R  S O Float in 0, 1;
    }
}

object! {
    /// Stopwatch: a time that runs.
    pub STOPWATCH = 3350 version 1.1, multiple, optional {
        5501 R  S O Integer;
        5518 R  S O Time;
        5544 RW S M Float;
        5750 RW S O String;
        5850 RW S O Boolean;
        6042 R  S O Integer in 0, 23;
        6049 R  S O Integer in 0, 100;
        6050 R  S O Float in 0, 1;
    }
}
