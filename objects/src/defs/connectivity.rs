//! Objects for how a device is connected (OMA registry, 10 to 13).
//!
//! Invariant: the tables are those of the registry.

use crate::object;

object! {
    /// Cellular Connectivity: power saving and identities of a mobile connection.
    pub CELLULAR_CONNECTIVITY = 10 version 1.1, single, optional {
        0    RW S O String;
        1    RW S O Integer in 0, 65535;
        2    RW S O String;
        3    R  S O ObjectLink;
        4    RW S O Integer;
        5    RW S O Integer;
        7    RW S O Opaque in 0, 255;
        8    RW S O Opaque in 0, 255;
        9    RW S O Opaque in 0, 255;
        10   RW S O Opaque in 0, 255;
        11   R  M M ObjectLink;
        12   R  S O Unsigned in 0, 255;
        13   RW S O Unsigned in 0, 255;
        14   RW S O Unsigned in 0, 255;
    }
}

object! {
    /// APN Connection Profile: an access point and what came of connecting to it.
    pub APN_CONNECTION_PROFILE = 11 version 1.1, multiple, optional {
        0    RW S M String;
        1    RW S O String;
        2    RW S O Boolean;
        3    RW S O Boolean;
        4    RW S M Integer;
        5    RW S O String;
        6    RW S O String;
        7    RW S O String;
        8    RW M O String;
        9    R  M O Time;
        10   R  M O Integer;
        11   R  M O Integer in 0, 111;
        12   R  M O Time;
        13   R  S O Integer;
        14   R  S O Integer;
        15   RW M O String;
        16   RW M O String;
        17   RW M O String;
        18   RW M O String;
        19   RW M O String;
        20   RW M O String;
        21   R  S O Integer in 1, 9;
        22   R  S O ObjectLink;
        23   R  S O Integer;
        24   RW S O Integer;
        25   R  S O Integer;
        26   RW S O Unsigned;
        27   RW S O Unsigned in 0, 4;
        28   R  S O Integer;
        29   RW S O Unsigned in 0, 4;
        30   RW M O Unsigned;
        31   RW M O String;
        32   RW M O Integer in 0, 15;
        33   RW M O Integer in 0, 15;
    }
}

object! {
    /// WLAN Connectivity: an interface to a wireless network.
    pub WLAN_CONNECTIVITY = 12 version 1.1, multiple, optional {
        0    RW S M String;
        1    RW S M Boolean;
        2    RW S O Integer;
        3    R  S M Integer;
        4    R  S M String in 12, 12;
        5    RW S M String in 1, 32;
        6    RW S O Boolean;
        7    RW S O Boolean;
        8    RW S M Integer;
        9    RW S M Integer in 0, 255;
        10   RW S O Boolean;
        11   RW M O Integer;
        12   RW M O Integer;
        13   RW S O String in 3, 3;
        14   RW S M Integer;
        15   RW S M Integer;
        16   RW S O Integer;
        17   W  S O String in 64, 64;
        18   W  S O String in 1, 64;
        19   RW S O Integer;
        20   RW S O Integer in 1, 4;
        21   W  S O String in 1, 64;
        22   W  S O String in 10, 26;
        23   W  S O String in 10, 26;
        24   W  S O String in 10, 26;
        25   W  S O String in 10, 26;
        26   RW S O String in 1, 256;
        27   RW S O Integer;
        28   W  S O String in 1, 256;
        29   R  S O Boolean;
        30   RW S O Boolean;
        31   RW S O Boolean;
        32   RW M O String in 12, 12;
        33   R  S O Integer;
        34   R  S O Integer;
        35   R  S O Integer;
        36   R  S O Integer;
        37   R  S O Integer;
        38   R  S O Integer;
        39   R  S O Integer;
        40   R  S O Integer;
        41   R  S O Integer;
        42   R  S O Integer;
        43   R  S O Integer;
        44   R  S O Integer;
        45   R  S O Integer;
        46   R  S O Integer;
        47   R  S O Integer;
        48   R  S O ObjectLink;
    }
}

object! {
    /// Bearer Selection: which bearers and networks are preferred.
    pub BEARER_SELECTION = 13 version 1.1, single, optional {
        0    RW M O Integer in 0, 100;
        1    RW S O Integer in -110, -48;
        2    RW S O Integer in -120, -25;
        3    RW S O Integer in -140, -44;
        4    RW S O Integer;
        5    RW S O String;
        6    RW S O String;
        7    RW S O Boolean;
        8    R  S O String;
        9    R  S O ObjectLink;
        10   RW S O Integer in -158, -44;
        11   RW S O Integer;
        12   RW S O Boolean;
    }
}
