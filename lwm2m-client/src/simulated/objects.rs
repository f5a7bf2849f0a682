//! All objects of the command line's device, and how they act together.
//!
//! Invariant: what a server writes has its effect with the next sample.

use std::time::{Duration, Instant};

use lwm2m_objects::ready::{
    ConnectivityStatistics, DeviceRequest, Held, PackageFailure, Sensor, SoftwareManagement, SoftwareRequest,
};
use lwm2m_objects::{At, Object, ObjectLink, Path, Value, defs, path};

use super::{Bank, Device, Firmware, Location, Temperature, UnixTime};

/// Up to four instances with 48 values, of up to 256 bytes.
type Values = Held<4, 48, 256>;

/// Device (3), Connectivity Monitoring (4), Firmware Update (5), Location (6), Connectivity Statistics (7), Software Management (9), Cellular Connectivity (10), APN
/// Connection Profile (11), WLAN Connectivity (12), Bearer Selection (13), Portfolio (16), BinaryAppDataContainer (19), Event Log
/// (20), Temperature (3303), Humidity (3304) and Light Control (3311).
#[derive(Debug)]
pub struct Objects<'a> {
    /// 3
    pub device: Device<'a>,
    /// 5
    pub firmware: Firmware,
    /// 6
    pub location: Location,
    /// 7
    pub statistics: ConnectivityStatistics,
    /// 3303
    pub temperature: Temperature,
    software: SoftwareManagement<Bank, 2>,
    humidity: Sensor,
    monitoring: Values,
    cellular: Values,
    apn: Values,
    wlan: Values,
    bearer: Values,
    portfolio: Values,
    data: Values,
    log: Values,
    lamp: Values,
    now: UnixTime,
    /// Packages of software that the next sample finds installed.
    installing: Vec<u16>,
    /// When the bearer that a server prefers has come up.
    moves_at: Option<Instant>,
}

/// What the owner has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Send, then start over.
    Reboot,
    /// Forget all accounts but those of the factory, then start over.
    FactoryReset,
    /// Go on over other sockets: the device is in another network now.
    Move,
}

impl<'a> Objects<'a> {
    /// The objects of a device with this serial number, which downloads firmware over these protocols, as `/5/0/8` numbers them.
    #[must_use]
    pub fn new(serial: &'a str, protocols: &'static [u8]) -> Self {
        Objects {
            device: Device::new(serial),
            firmware: Firmware::new(protocols),
            location: Location::new(),
            statistics: ConnectivityStatistics::new(),
            temperature: Temperature::new(),
            software: software(),
            humidity: Sensor::new(&defs::HUMIDITY, "%RH", 45.0).within(0.0, 100.0),
            monitoring: monitoring(),
            cellular: cellular(),
            apn: apn(),
            wlan: wlan(),
            // A server says what it prefers by creating the instance.
            bearer: Values::new(&defs::BEARER_SELECTION).open(),
            portfolio: portfolio(),
            data: data(),
            log: log(),
            lamp: Values::new(&defs::LIGHT_CONTROL)
                .with_instance(0)
                .with(path!("/3311/0/5850"), Value::Boolean(false))
                .with(path!("/3311/0/5851"), Value::Integer(100)),
            now: 0,
            installing: Vec::new(),
            moves_at: None,
        }
    }

    /// The objects, for a turn of the client.
    pub fn all(&mut self) -> [&mut dyn Object; 16] {
        [
            &mut self.device,
            &mut self.monitoring,
            &mut self.firmware,
            &mut self.location,
            &mut self.statistics,
            &mut self.software,
            &mut self.cellular,
            &mut self.apn,
            &mut self.wlan,
            &mut self.bearer,
            &mut self.portfolio,
            &mut self.data,
            &mut self.log,
            &mut self.temperature,
            &mut self.humidity,
            &mut self.lamp,
        ]
    }

    /// Lets time pass, and does what servers asked for; what changed.
    pub fn sample(&mut self, now: UnixTime) -> Vec<Path> {
        let seconds = u32::try_from(now.saturating_sub(self.now)).unwrap_or_default();
        if self.now != 0 {
            self.statistics.passed(seconds);
        }
        self.now = now;
        let mut changed: Vec<Path> = Vec::new();
        changed.extend(self.device.sample(now));
        changed.extend(self.temperature.sample(now, 0));
        changed.extend(self.location.sample(now));
        // The air is drier where it is warmer.
        if self.humidity.measured((450.0 - 10.0 * (self.temperature.celsius() - 21.0)).round() / 10.0) {
            changed.push(path!("/3304/0/5700"));
        }
        // A signal that comes and goes within a minute.
        let distance = i64::try_from(now.rem_euclid(60).abs_diff(30)).unwrap_or_default();
        let strength = Value::Integer(distance.saturating_sub(90));
        if self.monitoring.set(path!("/4/0/2"), strength) == Ok(true) {
            changed.push(path!("/4/0/2"));
        }
        changed.extend(self.take_bearer());
        changed.extend(self.take_profiles());
        changed.extend(self.take_log());
        changed.extend(self.take_software());
        changed
    }

    /// What the owner has to do, once.
    pub fn take_due(&mut self) -> Option<Due> {
        if let Some(version) = self.firmware.sample(self.now) {
            self.device.run(&version);
            return Some(Due::Reboot);
        }
        match self.device.take_requested() {
            Some(DeviceRequest::Reboot) => Some(Due::Reboot),
            Some(DeviceRequest::FactoryReset) => Some(Due::FactoryReset),
            None => self.moves_at.take_if(|at| *at <= Instant::now()).map(|_| Due::Move),
        }
    }

    /// Changes to the bearer that a server prefers: WLAN or a mobile network.
    fn take_bearer(&mut self) -> Vec<Path> {
        if !self.bearer.take_written() {
            return Vec::new();
        }
        let (is_wlan, bearer) = match self.bearer.value(path!("/13/0/0/0")) {
            Some(Value::Integer(WLAN_PREFERRED)) => (true, WLAN),
            _ => (false, LTE),
        };
        let mut changed = Vec::new();
        for (path, value) in [
            (path!("/12/0/1"), Value::Boolean(is_wlan)),
            (path!("/12/0/3"), Value::Integer(i64::from(is_wlan))),
        ] {
            if self.wlan.set(path, value) == Ok(true) {
                changed.push(path);
            }
        }
        if self.monitoring.set(path!("/4/0/0"), Value::Integer(bearer)) == Ok(true) {
            changed.push(path!("/4/0/0"));
            self.moves_at = Instant::now().checked_add(BEARER_UP);
        }
        changed
    }

    /// Activates the connection profiles that servers enabled.
    fn take_profiles(&mut self) -> Option<Path> {
        if !self.apn.take_written() {
            return None;
        }
        let profiles = core::iter::successors(self.apn.next_instance(None), |after| {
            self.apn.next_instance(Some(*after))
        });
        let mut is_changed = false;
        for (index, profile) in (0..4).zip(profiles.map(Some).chain(core::iter::repeat(None))) {
            let place = Path::resource_instance(10, 0, 11, index);
            let enabled = profile.filter(|profile| {
                let at = At { instance: *profile, resource: 3, resource_instance: 0 };
                self.apn.read(at) == Some(Value::Boolean(true))
            });
            is_changed |= match enabled {
                Some(instance) => {
                    let link = Value::ObjectLink(ObjectLink { object: 11, instance });
                    self.cellular.set(place, link) == Ok(true)
                }
                None => self.cellular.remove(place),
            };
        }
        is_changed.then_some(path!("/10/0/11"))
    }

    /// Installs packages of software, each from one sample to the next.
    fn take_software(&mut self) -> Vec<Path> {
        let installing = core::mem::take(&mut self.installing);
        for instance in &installing {
            if self.software.package(*instance).is_some_and(|package| package.fails) {
                self.software.failed(*instance, PackageFailure::Installation);
            } else {
                self.software.installed(*instance);
            }
        }
        while let Some((instance, request)) = self.software.take_requested() {
            if request == SoftwareRequest::Install {
                self.installing.push(instance);
            }
        }
        installing.into_iter().map(|instance| Path::instance(9, instance)).collect()
    }

    /// Starts and stops the log.
    fn take_log(&mut self) -> Option<Path> {
        let executed = self.log.take_executed()?;
        // Bits: stopped; there is valid data.
        let status = if executed.resource == LOG_START { 0b10 } else { 0b11 };
        let is_changed = self.log.set(path!("/20/0/4013"), Value::Integer(status)) == Ok(true);
        is_changed.then_some(path!("/20/0/4013"))
    }
}

/// `/13/0/0`
const WLAN_PREFERRED: i64 = 7;
/// `/4/0/0`
const WLAN: i64 = 21;
const LTE: i64 = 6;
const LOG_START: u16 = 4011;
/// How long another bearer takes to come up: what was asked over the former one is answered by then.
const BEARER_UP: Duration = Duration::from_secs(1);

fn monitoring() -> Values {
    Values::new(&defs::CONNECTIVITY_MONITORING)
        .with_instance(0)
        .with(path!("/4/0/0"), Value::Integer(LTE))
        .with(path!("/4/0/1/0"), Value::Integer(LTE))
        .with(path!("/4/0/1/1"), Value::Integer(WLAN))
        .with(path!("/4/0/2"), Value::Integer(-90))
        .with(path!("/4/0/3"), Value::Integer(70))
        .with(path!("/4/0/4/0"), Value::String("127.0.0.1"))
        .with(path!("/4/0/4/1"), Value::String("::1"))
        .with(path!("/4/0/5/0"), Value::String("127.0.0.254"))
        .with(path!("/4/0/5/1"), Value::String("fe80::1"))
        .with(path!("/4/0/6"), Value::Integer(5))
        .with(path!("/4/0/7/0"), Value::String("internet"))
        .with(path!("/4/0/7/1"), Value::String("iot"))
        .with(path!("/4/0/8"), Value::Integer(12_345))
        .with(path!("/4/0/9"), Value::Integer(1))
        .with(path!("/4/0/10"), Value::Integer(1))
}

fn software() -> SoftwareManagement<Bank, 2> {
    let mut software = SoftwareManagement::new(false);
    // There is room for it.
    let _ = software.add(0, Bank::default());
    software
}

fn cellular() -> Values {
    Values::new(&defs::CELLULAR_CONNECTIVITY)
        .with_instance(0)
        .with(path!("/10/0/4"), Value::Integer(3600))
        .with(path!("/10/0/5"), Value::Integer(600))
        .with(path!("/10/0/8"), Value::Opaque(&[0x35]))
        .with(path!("/10/0/9"), Value::Opaque(&[0x3a]))
        .with(path!("/10/0/11/0"), Value::ObjectLink(ObjectLink { object: 11, instance: 0 }))
        .with(path!("/10/0/12"), Value::Unsigned(3))
        .with(path!("/10/0/13"), Value::Unsigned(3))
        .with(path!("/10/0/14"), Value::Unsigned(1))
}

fn apn() -> Values {
    Values::new(&defs::APN_CONNECTION_PROFILE)
        .with_instance(0)
        .with(path!("/11/0/0"), Value::String("internet"))
        .with(path!("/11/0/1"), Value::String("internet"))
        .with(path!("/11/0/3"), Value::Boolean(true))
        .with(path!("/11/0/4"), Value::Integer(3))
        .open()
}

fn wlan() -> Values {
    Values::new(&defs::WLAN_CONNECTIVITY)
        .with_instance(0)
        .with(path!("/12/0/0"), Value::String("wlan0"))
        .with(path!("/12/0/1"), Value::Boolean(false))
        .with(path!("/12/0/3"), Value::Integer(0))
        .with(path!("/12/0/4"), Value::String("02005e100000"))
        .with(path!("/12/0/5"), Value::String("simulated"))
        .with(path!("/12/0/8"), Value::Integer(1))
        .with(path!("/12/0/9"), Value::Integer(0))
        .with(path!("/12/0/14"), Value::Integer(0))
        .with(path!("/12/0/15"), Value::Integer(0))
}

fn portfolio() -> Values {
    Values::new(&defs::PORTFOLIO)
        .with_instance(0)
        .with(path!("/16/0/0/0"), Value::String("Host Device ID #1"))
        .with(path!("/16/0/0/1"), Value::String("Host Device Model #1"))
        .with(path!("/16/0/0/2"), Value::String("Host Device Manufacturer #1"))
        .with(path!("/16/0/0/3"), Value::String("Host Device Software #1"))
        .open()
}

fn data() -> Values {
    Values::new(&defs::BINARY_APP_DATA_CONTAINER)
        .with_instance(0)
        .with_instance(1)
        .with(path!("/19/0/0/0"), Value::Opaque(b"from the device"))
        .with(path!("/19/1/0/0"), Value::Opaque(b"to the device"))
        .open()
}

fn log() -> Values {
    Values::new(&defs::EVENT_LOG)
        .with_instance(0)
        .with(path!("/20/0/4010"), Value::Integer(0))
        .with(path!("/20/0/4013"), Value::Integer(3))
        .with(path!("/20/0/4014"), Value::Opaque(b"simulated log"))
        .with(path!("/20/0/4015"), Value::Integer(0))
        .offering(&[LOG_START, 4012])
}
