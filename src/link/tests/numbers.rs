//! Numbers, acknowledgements and bytes, by properties against naive models.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use crate::link::codec::{self, Pieces};
use crate::link::deframer::Deframer;
use crate::link::frame::{Accepted, Frame, Refusal, RefusalCode};
use crate::link::sequence::{AckPacer, Received, Silence};
use crate::types::Time;
use crate::wire::frames::PREFIX_LEN;

/// Item number `n`, as bytes.
fn item(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

proptest! {
    /// Whatever frames arrive, items are handed on at most once and in rising order, and a jump is told exactly when numbers below
    /// the next item were never handed on, nor declared lost.
    #[test]
    fn items_rise_and_jumps_are_told(
        frames in prop::collection::vec((0u64..40, 0u64..6, prop::bool::weighted(0.1)), 0..40),
    ) {
        let mut received = Received::default();
        let (mut expected, mut open) = (0, true);
        for (first, count, lost) in frames {
            if lost {
                received.declare_lost();
                open = true;
            }
            let items = (first..first + count).map(item).collect();
            let taken = received.take(first, items).unwrap();
            let fresh: Vec<_> = (first..first + count).filter(|n| *n >= expected).map(item).collect();
            prop_assert_eq!(&taken.items, &fresh);
            prop_assert_eq!(taken.jumped, first > expected && !open);
            open = false;
            expected = expected.max(first + count);
            prop_assert_eq!(received.expected(), expected);
        }
    }

    /// Acknowledgements are never further apart than 10 ms while there is news, nor closer than that unless 256 KiB came.
    #[test]
    fn acknowledgements_keep_their_pace(
        frames in prop::collection::vec((0u64..20_000, 1usize..200_000), 1..200),
    ) {
        let every = Duration::from_millis(10);
        let mut pacer = AckPacer::new(every, 256 << 10);
        let (mut now, mut upto, mut told) = (Time::ZERO, 0, 0);
        let (mut last, mut bytes_since, mut news_since) = (None::<Time>, 0, None);
        for (us, bytes) in frames {
            now = now + Duration::from_micros(us);
            // The timer that was set rings before anything later happens.
            if let (Some(since), Some(at)) = (news_since, last) {
                let due = (at + every).max(since);
                if due <= now {
                    prop_assert_eq!(pacer.due_in(due), Some(Duration::ZERO));
                    told = pacer.tell(due);
                    (last, bytes_since, news_since) = (Some(due), 0, None);
                    prop_assert_eq!(told, upto);
                }
            }
            upto += 1;
            bytes_since += bytes;
            let look = pacer.handed_on(upto, bytes);
            prop_assert_eq!(look, news_since.is_none()
                || (bytes_since >= 256 << 10 && bytes_since - bytes < 256 << 10));
            news_since.get_or_insert(now);
            let wait = pacer.due_in(now).expect("there is news");
            prop_assert!(wait <= every);
            if wait.is_zero() {
                let soon = last.is_some_and(|last| now.since(last) < every);
                prop_assert!(!soon || bytes_since >= 256 << 10, "too early");
                told = pacer.tell(now);
                (last, bytes_since, news_since) = (Some(now), 0, None);
                prop_assert_eq!(told, upto);
                prop_assert_eq!(pacer.due_in(now), None);
            }
        }
        prop_assert!(told <= upto);
    }

    /// Content written by hand is the protobuf message, whole, with items of every size, however the body is cut on its way.
    #[test]
    fn content_by_hand_reads_back(
        first in any::<u64>().prop_map(|n| n >> 1),
        lens in prop::collection::vec(prop_oneof![0usize..300, 16_000usize..17_000, Just(1 << 20)], 1..12),
        cuts in prop::collection::vec(1usize..40_000, 1..20),
    ) {
        let items: Vec<_> = lens.iter().enumerate()
            .map(|(at, len)| Bytes::from(vec![at as u8; *len])).collect();
        let mut pieces = Pieces::default();
        pieces.put_frame(Frame::Ack { upto: 7 });
        pieces.put_content(first, items.iter());
        pieces.put_control(&items[0]);
        pieces.cut();
        let frames = read_back(pieces, &cuts);
        prop_assert_eq!(frames, vec![
            Frame::Ack { upto: 7 },
            Frame::Content { first, items: items.clone() },
            Frame::Control(items[0].clone()),
        ]);
    }
}

/// Sends what `pieces` has through the deframer, in chunks of the lengths in `cuts`, round and round.
fn read_back(mut pieces: Pieces, cuts: &[usize]) -> Vec<Frame> {
    let mut sent = Vec::new();
    while let Some(piece) = pieces.pop() {
        sent.extend_from_slice(&piece);
    }
    let mut sent = Bytes::from(sent);
    let mut chunks = Vec::new();
    for cut in cuts.iter().cycle() {
        if sent.is_empty() {
            break;
        }
        let chunk = sent.split_to((*cut).min(sent.len()));
        chunks.push(Ok::<_, std::convert::Infallible>(http_body::Frame::data(chunk)));
    }
    let body = http_body_util::StreamBody::new(futures_util::stream::iter(chunks));
    let mut deframer = Deframer::new(body, 64 << 20);
    let mut frames = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    while let Ok(message) = runtime.block_on(deframer.next()) {
        frames.push(codec::decode(message).unwrap());
    }
    frames
}

#[test]
fn large_items_are_not_copied() {
    let large = Bytes::from(vec![7; 20_000]);
    let small = Bytes::from_static(b"small");
    let mut pieces = Pieces::default();
    pieces.put_content(0, [&small, &large, &small].into_iter());
    pieces.cut();
    let sent: Vec<_> = std::iter::from_fn(|| pieces.pop()).collect();
    assert_eq!(sent.len(), 3);
    assert_eq!(sent[1].as_ptr(), large.as_ptr());
}

#[test]
fn greeting_frames_read_back() {
    for frame in [
        Frame::Accepted(Accepted { position: 3, had_epoch: true, lost: 2 }),
        Frame::Refused(Refusal { code: RefusalCode::Settings, reason: "differ".into() }),
        Frame::Ping { sent_us: 5, control: "digest".into(), state: "hash".into() },
        Frame::State("rows".into()),
        Frame::Pong { sent_us: 5 },
    ] {
        let bytes = codec::encode(frame.clone()).slice(PREFIX_LEN..);
        assert_eq!(codec::decode(bytes).unwrap(), frame);
    }
}

#[test]
fn junk_is_no_frame() {
    for junk in [&b""[..], b"\xff\xff\xff", b"\x52\x05abc", b"\x0a\x00", b"\x12\x03\x0a\x01\xff"] {
        assert!(codec::decode(Bytes::from_static(junk)).is_err(), "{junk:?}");
    }
}

#[test]
fn numbers_beyond_64_bits_are_refused() {
    let mut received = Received::default();
    assert!(received.take(u64::MAX, vec![item(0), item(1)]).is_none());
    assert!(received.take(3, vec![item(0)]).is_some_and(|taken| !taken.jumped));
    assert!(received.take(u64::MAX - 1, vec![item(0)]).is_some_and(|taken| taken.jumped));
}

#[test]
fn silence_is_judged_by_those_who_are_on_time() {
    let ms = Time::from_millis;
    let mut silence = Silence::new(Duration::from_secs(3), ms(0));
    for now in (500..3_000).step_by(500) {
        assert!(!silence.look(ms(now)), "at {now} ms");
    }
    assert!(silence.look(ms(3_000)));

    let mut stopped = Silence::new(Duration::from_secs(3), ms(0));
    assert!(!stopped.look(ms(500)));
    assert!(!stopped.look(ms(10_500)), "it slept for ten seconds itself");
    assert!(!stopped.look(ms(11_000)));
    stopped.heard(ms(11_100));
    assert!(!stopped.look(ms(12_000)) && !stopped.look(ms(13_000)));
    assert!(stopped.look(ms(14_100)));
}
