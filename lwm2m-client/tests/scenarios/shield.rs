//! Object security at the end of a scripted server, which keeps everything in memory.

use std::collections::BTreeSet;

use lwm2m_client::Instant;
use lwm2m_coap::{Code, Exchange, Message, OptionNumber, Writer};
use oscore::{Binding, Observation, OscoreOption, Parameters, Protection, Rederivation, Session, Standing};

pub type Bound = Option<Binding>;

pub struct Shield {
    pub parameters: Parameters,
    pub session: Session,
    pub observations: heapless::Vec<Observation, 8>,
    /// Does what Appendix B.2 says.
    pub rederives: bool,
    /// How often a device had its keys replaced.
    pub asked: usize,
    /// The numbers that came, by the ID Context of their keys.
    pub numbers: BTreeSet<(Vec<u8>, u64)>,
    /// How often a request had to prove that it is fresh.
    pub challenged: usize,
}

impl Shield {
    /// The other end of what a device has.
    pub fn new(parameters: Parameters) -> Self {
        let mut shield = Shield {
            session: Session::new(&parameters, [0x5e; 16]),
            parameters,
            observations: heapless::Vec::new(),
            rederives: false,
            asked: 0,
            numbers: BTreeSet::new(),
            challenged: 0,
        };
        shield.reserve();
        shield
    }

    /// The server has lost what it knew of the keys, but for its own numbers.
    pub fn restart(&mut self) {
        let known = Session::new(&self.parameters, [0x5f; 16]).wanted().unwrap();
        self.session = Session::restored(&self.parameters, &known, [0x60; 16]);
        self.reserve();
    }

    /// The server begins to replace the keys, because it has none any more.
    pub fn rederive(&mut self) {
        let (parameters, now) = (&self.parameters, Instant::from_millis(0));
        self.session = Session::new(parameters, [0x61; 16]);
        self.session.rederive(&Rederivation { parameters, now, random: [0x62; 8], durable: false });
    }

    /// Notes the number of a message that verified; it never came before.
    pub fn note(&mut self, number: Option<u64>) {
        let id_context = self.session.context().id_context().unwrap_or_default().to_vec();
        if let Some(number) = number {
            assert!(self.numbers.insert((id_context, number)), "{number} came twice");
        }
    }

    fn reserve(&mut self) {
        if let Some(wanted) = self.session.wanted() {
            self.session.saved(&wanted);
        }
    }

    /// What a request is answered with that cannot be carried out yet.
    pub fn refuse(
        &mut self,
        now: Instant,
        exchange: &mut Exchange<Bound>,
        message: &Message<'_>,
    ) -> Option<Refusal> {
        let binding = (*exchange.binding())?;
        match binding.standing() {
            Standing::Fresh => None,
            Standing::Rederiving => {
                self.asked += 1;
                Some(Refusal(None))
            }
            Standing::Unproven => match self.session.recover(binding, now, message.options.echo()) {
                Some(proven) => {
                    exchange.set_binding(Some(proven));
                    None
                }
                None => {
                    self.challenged += 1;
                    let mut buffer = [0; 64];
                    let mut writer = Writer::new(&mut buffer, lwm2m_coap::Room::NONE, Code::UNAUTHORIZED);
                    self.session.challenge(now, &mut writer).unwrap();
                    let draft = writer.finish().unwrap();
                    let (options, _) = lwm2m_coap::Options::parse(draft.bytes()).unwrap();
                    Some(Refusal(options.echo().map(<[u8]>::to_vec)))
                }
            },
        }
    }
}

/// 4.01, with an Echo value or without.
pub struct Refusal(Option<Vec<u8>>);

impl Refusal {
    pub fn write(&self, writer: &mut Writer<'_>) {
        if let Some(echo) = &self.0 {
            writer.option(OptionNumber::ECHO, echo).unwrap();
        }
    }
}

/// The hook of a peer for one call.
pub fn hook<'s>(
    shield: &'s mut Option<Shield>,
    now: Instant,
    rng: &mut dyn FnMut(&mut [u8]),
) -> Option<Protection<'s, heapless::Vec<Observation, 8>>> {
    let Shield { parameters, session, observations, rederives, .. } = shield.as_mut()?;
    if let Some(wanted) = session.wanted() {
        session.saved(&wanted);
    }
    let mut random = [0; 8];
    rng(&mut random);
    let rederivation = rederives.then_some(Rederivation { parameters, now, random, durable: false });
    Some(Protection::new(session, observations, rederivation))
}

/// The OSCORE option of a datagram.
pub fn option(datagram: &[u8]) -> Option<OscoreOption<'_>> {
    let token = usize::from(datagram[0] & 0x0f);
    let (options, _) = lwm2m_coap::Options::parse(&datagram[4 + token..]).unwrap();
    options.get(OptionNumber::OSCORE).map(|value| OscoreOption::parse(value).unwrap())
}
