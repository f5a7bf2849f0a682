//! Objects for software, data and logs (OMA registry, 9, 16, 19, 20).
//!
//! Invariant: the tables are those of the registry.

use crate::object;

object! {
    /// Software Management: a package of software, installed and activated.
    pub SOFTWARE_MANAGEMENT = 9 version 1.0, multiple, optional {
        0    R  S M String in 0, 255;
        1    R  S M String in 0, 255;
        2    W  S O Opaque;
        3    W  S O String in 0, 255;
        4    E  S M Nothing;
        5    R  S O ObjectLink;
        6    E  S M Nothing;
        7    R  S M Integer in 0, 4;
        8    RW S O Boolean;
        9    R  S M Integer in 0, 200;
        10   E  S M Nothing;
        11   E  S M Nothing;
        12   R  S M Boolean;
        13   RW S O ObjectLink;
        14   W  S O String in 0, 255;
        15   W  S O String in 0, 255;
        16   R  S O String;
        17   R  M O ObjectLink;
        18   R  S O Integer in 0, 255;
    }
}

object! {
    /// Portfolio: identities of what the device belongs to.
    pub PORTFOLIO = 16 version 1.0, multiple, optional {
        0    RW M M String;
        1    E  S O Nothing;
        2    R  M O Opaque;
        3    R  S O Integer in 0, 2;
    }
}

object! {
    /// BinaryAppDataContainer: data of an application, of whatever form.
    pub BINARY_APP_DATA_CONTAINER = 19 version 1.0, multiple, optional {
        0    RW M M Opaque;
        1    RW S O Integer in 0, 255;
        2    RW S O Time;
        3    RW S O String in 0, 32;
        4    RW S O String in 0, 32;
        5    RW S O Integer in 0, 65535;
    }
}

object! {
    /// Event Log: records of the device, started, stopped and read.
    pub EVENT_LOG = 20 version 2.1, multiple, optional {
        4010 RW S O Integer in 0, 255;
        4011 E  S O Nothing;
        4012 E  S O Nothing;
        4013 R  S O Integer in 0, 255;
        4014 R  S M Opaque;
        4015 RW S O Integer in 0, 255;
        4016 -  S O Opaque;
        4017 RW S O Unsigned;
    }
}
