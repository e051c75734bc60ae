//! Reads full segments from end to end: first to write down what they say, later to see that they
//! still say it.
//!
//! The first survey of a segment makes its sidecar (see `summary`). Later ones are the *scrub*: all
//! full segments are read in turn, slowly, and a record that does not verify twice is damage. It is
//! reported, its segment is not compacted any more, and the keys whose records lie there answer
//! Unknown, so that the other replicas heal them; nothing waits for a client to read it. Pure; one
//! slice at a time, between the other work of the upkeep.

use std::ops::Range;

use bytes::Bytes;

use super::border::{DamagedRegion, Event, LogError, LogNote, Rotten};
use super::codec::to_u64;
use super::disk::{DiskDone, DiskError, DiskOp, FileName, may_read_again};
use super::log::{Held, Log};
use super::record::{HEADER_BYTES, Header, verify};
use super::segment::SEGMENT_HEADER_BYTES;
use super::summary::SidecarBuilder;
use super::upkeep::SLICE_BYTES;
use crate::marks::sometimes;
use crate::planted::{Bug, planted};
use crate::time::{Mono, Now};

/// A segment being read.
#[derive(Debug)]
pub(super) struct Survey {
    segment: u32,
    /// `None` = it has its sidecar, or is damaged: this is the scrub.
    sidecar: Option<SidecarBuilder>,
    step: Step,
    /// Where the damaged bytes begin that are being read.
    hole: Option<u64>,
    damaged: Vec<Range<u64>>,
}

#[derive(Debug)]
enum Step {
    /// Read at least `bytes` bytes, which failed so often, or the record at `at` did not verify.
    Read {
        at: u64,
        bytes: usize,
        failed: u8,
    },
    /// Write the sidecar: make the file, then its contents from `at`, then sync it.
    Create(Bytes),
    Write {
        contents: Bytes,
        at: usize,
    },
    Sync,
}

/// When the scrub goes on.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    /// When the next round begins; `None` = not known yet.
    due: Option<Mono>,
    /// The last segment of this round that was read.
    last: u32,
}

impl Log {
    /// Whether a survey goes on, after beginning one for a segment without a sidecar.
    pub(super) fn sidecar_is_due(&mut self) -> bool {
        if self.full {
            return false;
        }
        if self.upkeep.survey.as_ref().is_some_and(|survey| !survey.is_scrub()) {
            return true;
        }
        let wants = |held: &&Held| self.is_sealed(held) && !held.damaged && !held.sidecar;
        let newest = self
            .active
            .filter(|_| planted(Bug::CheckpointNewerThanLog) && self.append.is_writing());
        let number = self.segments.values().find(wants).map(Held::number).or(newest);
        if let Some(held) = number.and_then(|number| self.segments.get(&number)) {
            let builder = SidecarBuilder::new(self.config.node, held.segment);
            self.upkeep.survey = Some(Survey::new(held.number(), Some(builder)));
        }
        number.is_some()
    }

    /// Whether a sync waits until the sidecar of what it is to make durable is there: never, but
    /// for a planted bug.
    pub(super) fn checkpoint_goes_first(&self) -> bool {
        let survey = self.upkeep.survey.as_ref().filter(|_| planted(Bug::CheckpointNewerThanLog));
        survey.is_some_and(|survey| !survey.is_scrub() && Some(survey.segment) == self.active)
    }

    /// Whether the scrub goes on, after choosing the segment that it reads next.
    pub(super) fn scrub_is_due(&mut self, now: Now) -> bool {
        if self.upkeep.survey.is_some() {
            return true;
        }
        let Some(cycle_ms) = self.config.scrub_ms else { return false };
        let due = *self.upkeep.scrub.due.get_or_insert(now.mono.plus_ms(cycle_ms));
        if now.mono < due {
            return false;
        }
        let rest = self.segments.range(self.upkeep.scrub.last + 1..);
        let next = rest.map(|(_, held)| held).find(|held| self.is_sealed(held) && !held.damaged);
        let next = next.map(Held::number);
        if let Some(number) = next {
            self.upkeep.survey = Some(Survey::new(number, None));
        } else {
            self.status.scrubs += 1;
            let due = Some(now.mono.plus_ms(cycle_ms));
            self.upkeep.scrub = Scrub { due, last: 0 };
        }
        next.is_some()
    }

    /// When the scrub begins its next round.
    pub(super) fn scrub_deadline(&self) -> Option<Mono> {
        self.upkeep.scrub.due.filter(|_| self.upkeep.survey.is_none())
    }

    /// The next operation of the survey.
    pub(super) fn survey_operation(&self) -> Option<DiskOp> {
        let survey = self.upkeep.survey.as_ref()?;
        let file = FileName::Sidecar(survey.segment);
        Some(match &survey.step {
            Step::Read { at, bytes, .. } => {
                let length = u32::try_from(*bytes).expect("a slice is shorter than 4 GiB");
                DiskOp::Read { file: FileName::Segment(survey.segment), offset: *at, length }
            }
            Step::Create(_) => DiskOp::Create { file, bytes: 0 },
            Step::Write { contents, at } => {
                let end = contents.len().min(at + SLICE_BYTES);
                DiskOp::Write { file, offset: to_u64(*at), parts: vec![contents.slice(*at..end)] }
            }
            Step::Sync => DiskOp::Sync { file },
        })
    }

    /// The operation of the survey has returned.
    pub(super) fn on_surveyed(
        &mut self,
        now: Now,
        result: Result<DiskDone, DiskError>,
    ) -> Result<(), LogError> {
        let Some(mut survey) = self.upkeep.survey.take() else { return Ok(()) };
        let Some(held) = self.segments.get(&survey.segment).copied() else {
            // A compaction was faster. What there is of a sidecar goes too.
            if !matches!(survey.step, Step::Read { .. }) {
                self.upkeep.remove(FileName::Sidecar(survey.segment));
            }
            return Ok(());
        };
        let step = std::mem::replace(&mut survey.step, Step::Sync);
        match (step, result) {
            (Step::Read { at, bytes: wanted, failed }, result) => {
                let bytes = match result {
                    Ok(DiskDone::Bytes(bytes)) => bytes,
                    // What cannot be read is a hole: zeros never verify.
                    Ok(_) | Err(_) if !may_read_again(failed + 1) => vec![0; wanted].into(),
                    Ok(DiskDone::Done | DiskDone::Files(_) | DiskDone::Space { .. }) | Err(_) => {
                        survey.step = Step::Read { at, bytes: wanted, failed: failed + 1 };
                        self.upkeep.survey = Some(survey);
                        return Ok(());
                    }
                };
                self.status.surveyed_bytes += to_u64(bytes.len());
                let next = survey.walk(&held, at, wanted, failed, &bytes);
                if let Some(builder) = &mut survey.sidecar {
                    builder.sum();
                }
                let Some(step) = next else {
                    self.finish_survey(survey, &held);
                    return Ok(());
                };
                survey.step = step;
            }
            (_, Err(DiskError::Full)) => {
                self.upkeep.remove(FileName::Sidecar(survey.segment));
                self.on_no_space(now, None);
                return Ok(());
            }
            (step, Err(error)) => {
                let file = FileName::Sidecar(survey.segment).to_string();
                return Err(LogError::Io { doing: step.doing(), file, error });
            }
            (Step::Create(contents), Ok(_)) => survey.step = Step::Write { contents, at: 0 },
            (Step::Write { contents, at }, Ok(_)) => {
                let at = at + SLICE_BYTES;
                if at < contents.len() {
                    survey.step = Step::Write { contents, at };
                }
            }
            (Step::Sync, Ok(_)) => {
                let held = self.segments.get_mut(&survey.segment).expect("it was found above");
                held.sidecar = true;
                self.status.sidecars += 1;
                return Ok(());
            }
        }
        self.upkeep.survey = Some(survey);
        Ok(())
    }

    /// The segment was read to its end.
    fn finish_survey(&mut self, mut survey: Survey, held: &Held) {
        let number = survey.segment;
        if survey.sidecar.is_none() {
            self.upkeep.scrub.last = number;
        }
        if survey.damaged.is_empty() {
            if let Some(builder) = survey.sidecar.take() {
                survey.step = Step::Create(builder.finish(held.end));
                self.upkeep.survey = Some(survey);
            }
            return;
        }
        sometimes!("a scrub found damage that nobody had read");
        let reason = "does not verify; the records there are taken from other nodes";
        for region in &survey.damaged {
            let (offset, length) = (region.start, region.end - region.start);
            let region = DamagedRegion { file: FileName::Segment(number), offset, length, reason };
            self.events.push(Event::Notice(format!("damage: {region}")));
        }
        self.status.damaged_regions += to_u64(survey.damaged.len());
        if let Some(held) = self.segments.get_mut(&number) {
            held.damaged = true;
        }
        self.notify_all(&LogNote::Rotten(Rotten { segment: number, regions: survey.damaged }));
    }
}

impl Survey {
    fn new(segment: u32, sidecar: Option<SidecarBuilder>) -> Self {
        let at = to_u64(SEGMENT_HEADER_BYTES);
        let step = Step::Read { at, bytes: SLICE_BYTES, failed: 0 };
        Self { segment, sidecar, step, hole: None, damaged: Vec::new() }
    }

    /// Whether it only looks.
    pub(super) fn is_scrub(&self) -> bool {
        self.sidecar.is_none() && matches!(self.step, Step::Read { .. })
    }

    /// Walks from record to record through the slice at `from`. Returns what to read next; `None` =
    /// this was the end.
    fn walk(
        &mut self,
        held: &Held,
        from: u64,
        wanted: usize,
        mut failed: u8,
        bytes: &Bytes,
    ) -> Option<Step> {
        let mut at = 0;
        while from + to_u64(at) < held.end {
            let offset = from + to_u64(at);
            let is_short = bytes.len() < wanted;
            if at >= bytes.len() && (!is_short || may_read_again(failed + 1)) {
                let failed = if is_short { failed + 1 } else { 0 };
                return Some(Step::Read { at: offset, bytes: SLICE_BYTES, failed });
            }
            let rest = bytes.slice(at.min(bytes.len())..);
            if let Some(header) = verify(&rest, held.segment.seed(), offset) {
                self.end_hole(offset);
                let record = rest.slice(..header.bytes());
                if let Some(builder) = &mut self.sidecar
                    && builder.add(&header, &record, offset).is_none()
                {
                    self.damaged.push(offset..offset + u64::from(header.length));
                }
                at += header.bytes();
                failed = 0;
                continue;
            }
            let whole = Header::decode(&rest).map_or(HEADER_BYTES, |header| header.bytes());
            let goes_on = rest.len() < whole && offset + to_u64(whole) <= held.end;
            if goes_on && !is_short {
                let bytes = whole.max(SLICE_BYTES);
                return Some(Step::Read { at: offset, bytes, failed });
            }
            if may_read_again(failed + 1) {
                return Some(Step::Read { at: offset, bytes: wanted, failed: failed + 1 });
            }
            // Records begin at multiples of eight; the next that verifies ends the damage.
            self.hole.get_or_insert(offset);
            at += 8;
        }
        self.end_hole(held.end);
        None
    }

    fn end_hole(&mut self, end: u64) {
        if let Some(start) = self.hole.take() {
            self.damaged.push(start..end);
        }
    }
}

impl Step {
    fn doing(&self) -> &'static str {
        match self {
            Self::Read { .. } => "reading",
            Self::Create(_) => "creating",
            Self::Write { .. } => "writing",
            Self::Sync => "syncing",
        }
    }
}
