//! Definitions of objects (LwM2M Core 1.2.1 Appendix D.1; the OMA registry).

use lwm2m_server::models;

/// Any text is read to its end or refused at one of its lines; what is read holds together.
pub fn models(input: &[u8]) {
    match models::parse(input) {
        Ok(models) => {
            assert!(!models.is_empty());
            for model in models {
                assert!(model.id != u16::MAX);
                assert!(model.resources.is_sorted_by(|one, other| one.id < other.id));
                let texts = model.resources.iter().map(|resource| resource.name.len() + resource.range.len());
                assert!(model.name.len() + texts.sum::<usize>() <= input.len());
                for resource in &model.resources {
                    assert_eq!(model.resource(resource.id), Some(resource));
                }
            }
        }
        Err(invalid) => {
            let lines = input.iter().filter(|byte| **byte == b'\n').count() + 1;
            assert!((1..=lines).contains(&invalid.line), "{invalid}");
        }
    }
}
