//! The core objects (LwM2M Core 1.2.1 Appendix E).
//!
//! Invariant: the tables are those of the registry, but for what the field writes otherwise, which stands beside it.

use crate::object;

object! {
    /// Security: how to reach a server and how to prove who one is.
    pub SECURITY = 0 version 1.2, multiple, mandatory {
        0   -  S M String in 0, 255;
        1   -  S M Boolean;
        2   -  S M Integer in 0, 4;
        3   -  S M Opaque;
        4   -  S M Opaque;
        5   -  S M Opaque;
        6   -  S O Integer in 0, 255;
        // 6 and 16 to 48 bytes; but servers write them empty for an account that is not reached by SMS.
        7   -  S O Opaque in 0, 6;
        8   -  S O Opaque in 0, 48;
        9   -  S O String;
        // 1 to 65534; but some write 0 or 65535 for the account of a Bootstrap-Server, which has none.
        10  -  S O Integer in 0, 65535;
        11  -  S O Integer;
        12  -  S O Integer;
        13  -  S O Unsigned in 0, 3;
        14  -  S O String;
        15  -  S O Unsigned in 0, 3;
        16  -  M O Unsigned;
        17  -  S O ObjectLink;
        18  -  M O Unsigned in 0, 65535;
        19  -  M O Unsigned in 0, 65535;
        20  -  M O Unsigned in 0, 65535;
        21  -  M O Unsigned in 0, 65535;
        22  -  S O Unsigned in 0, 65535;
        23  -  S O Unsigned in 0, 65535;
        24  -  S O Unsigned in 0, 65535;
        25  -  M O String in 0, 255;
        26  -  S O ObjectLink;
        27  -  M O ObjectLink;
        28  -  S O Integer in 0, 15;
        29  -  S O Integer in 0, 15;
        30  -  S O String;
    }
}

object! {
    /// Server: how a server is registered with.
    pub SERVER = 1 version 1.2, multiple, mandatory {
        0   R  S M Integer in 1, 65534;
        1   RW S M Integer in 0, i32::MAX;
        2   RW S O Integer in 0, i32::MAX;
        3   RW S O Integer in 0, i32::MAX;
        4   E  S O Nothing;
        5   RW S O Integer in 0, i32::MAX;
        6   RW S M Boolean;
        7   RW S M String;
        8   E  S M Nothing;
        9   E  S O Nothing;
        10  RW S O ObjectLink;
        11  R  S O Unsigned in 0, 255;
        12  R  S O Time;
        13  R  S O Unsigned;
        14  RW S O Unsigned;
        15  R  S O Boolean;
        16  R  S O Boolean;
        17  RW S O Unsigned;
        18  RW S O Unsigned;
        19  RW S O Unsigned;
        20  RW S O Unsigned;
        21  RW S O Boolean;
        22  RW S O String in 1, 1;
        23  RW S O Boolean;
        24  RW M O ObjectLink;
        25  RW M O String;
        26  RW S O Integer in 0, 1;
        27  RW S O Unsigned in 0, 255;
    }
}

object! {
    /// Access Control: what servers may do with an instance.
    pub ACCESS_CONTROL = 2 version 1.1, multiple, optional {
        0   R  S M Integer in 1, 65534;
        1   R  S M Integer in 0, 65535;
        2   RW M O Integer in 0, 31;
        3   RW S M Integer in 0, 65535;
    }
}

object! {
    /// Device: what the device is, and how it is.
    pub DEVICE = 3 version 1.2, single, mandatory {
        0   R  S O String;
        1   R  S O String;
        2   R  S O String;
        3   R  S O String;
        4   E  S M Nothing;
        5   E  S O Nothing;
        6   R  M O Integer in 0, 7;
        7   R  M O Integer;
        8   R  M O Integer;
        9   R  S O Integer in 0, 100;
        10  R  S O Integer;
        11  R  M M Integer in 0, 32;
        12  E  S O Nothing;
        13  RW S O Time;
        14  RW S O String;
        15  RW S O String;
        16  R  S M String;
        17  R  S O String;
        18  R  S O String;
        19  R  S O String;
        20  R  S O Integer in 0, 6;
        21  R  S O Integer;
        22  R  M O ObjectLink;
    }
}

object! {
    /// Connectivity Monitoring: over what the device is connected, and how well.
    pub CONNECTIVITY_MONITORING = 4 version 1.3, single, optional {
        0   R  S M Integer in 0, 50;
        1   R  M M Integer in 0, 50;
        2   R  S M Integer;
        3   R  S O Integer;
        4   R  M M String;
        5   R  M O String;
        6   R  S O Integer in 0, 100;
        7   R  M O String;
        8   R  S O Integer;
        9   R  S O Integer in 0, 999;
        10  R  S O Integer in 0, 999;
        11  R  S O Integer;
        12  R  S O Integer;
        13  R  S O Integer in 0, 4;
    }
}

object! {
    /// Firmware Update.
    pub FIRMWARE_UPDATE = 5 version 1.2, single, optional {
        0   W  S M Opaque;
        1   RW S M String in 0, 255;
        2   E  S M Nothing;
        3   R  S M Integer in 0, 3;
        5   R  S M Integer in 0, 11;
        6   R  S O String in 0, 255;
        7   R  S O String in 0, 255;
        8   R  M O Integer in 0, 5;
        9   R  S M Integer in 0, 2;
        10  E  S O Nothing;
        11  RW S O Integer in 0, 2;
        12  R  S O Time;
        13  RW S O Unsigned;
        14  RW S O Boolean;
    }
}

object! {
    /// Location: where the device is.
    pub LOCATION = 6 version 1.0, single, optional {
        0   R  S M Float;
        1   R  S M Float;
        2   R  S O Float;
        3   R  S O Float;
        4   R  S O Opaque;
        5   R  S M Time;
        6   R  S O Float;
    }
}

object! {
    /// Connectivity Statistics: how much was sent and received.
    pub CONNECTIVITY_STATISTICS = 7 version 1.0, single, optional {
        0   R  S O Integer;
        1   R  S O Integer;
        2   R  S O Integer;
        3   R  S O Integer;
        4   R  S O Integer;
        5   R  S O Integer;
        6   E  S M Nothing;
        7   E  S M Nothing;
        8   RW S O Integer;
    }
}

object! {
    /// OSCORE: what messages to a server are protected with.
    // Departure: bytes as in version 2.0, where 1.1 says texts: the values are the same, and no id need be a text.
    pub OSCORE = 21 version 1.1, multiple, optional {
        0   -  S M Opaque;
        1   -  S M Opaque;
        2   -  S M Opaque;
        3   -  S O Integer;
        4   -  S O Integer;
        5   -  S O Opaque;
        6   -  S O Opaque;
    }
}
