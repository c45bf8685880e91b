//! Redis clients, as plain as the protocol allows.
//!
//! A Redis subscriber can't be told of a gap, and an answer doesn't say who has confirmed: what it gets is judged for order, doubles
//! and origin, not for loss.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cluster_tests::chance::Chance;
use cluster_tests::history::{Kind, Numbered, Op, Who};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::load::{Publisher, Round, TOPICS, topic};

const AGAIN: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(300);

pub(crate) async fn publish(round: Round, node: usize, mut chance: Chance) {
    let name = round.node_name(node);
    let mut publisher = Publisher::new(&round.recorder, format!("r{}@{name}", round.number), &name);
    while !round.is_over() {
        if let Ok(mut redis) = Redis::connect(round.place.redis(node)).await {
            let _ = publish_over(&round, &mut redis, &mut publisher, &mut chance).await;
        }
        publisher.renew();
        tokio::time::sleep(AGAIN).await;
    }
}

async fn publish_over(
    round: &Round,
    redis: &mut Redis,
    publisher: &mut Publisher,
    chance: &mut Chance,
) -> io::Result<()> {
    while !round.is_over() {
        let topic = topic(chance.below(TOPICS));
        let messages: Vec<Numbered> = (0..10).map(|_| publisher.next(&topic)).collect();
        let mut commands = Vec::new();
        for message in &messages {
            let payload = message.payload(32);
            command(&mut commands, &[b"PUBLISH", topic.as_bytes(), payload.as_bytes()]);
        }
        redis.send(&commands).await?;
        for message in messages {
            match redis.reply().await? {
                Reply::Number => publisher.all_are(Kind::Ok, vec![message]),
                other => return Err(io::Error::other(format!("{other:?}"))),
            }
        }
        tokio::time::sleep(chance.ms(100..300)).await;
    }
    Ok(())
}

pub(crate) async fn listen(round: Round, node: usize, mut chance: Chance) {
    let mut connection = 0;
    while !round.is_quiet() {
        let proc = format!("q{}-{node}-{connection}", round.number);
        let who = Who { proc, attachment: 0, node: round.node_name(node) };
        if let Ok(mut redis) = Redis::connect(round.place.redis(node)).await {
            let ended = listen_over(&round, &mut redis, &who, &mut chance).await;
            let how = ended.err().map(|error| error.to_string()).unwrap_or_default();
            round.recorder.add(&who, Kind::Event, Op::Ended { how });
        }
        connection += 1;
        tokio::time::sleep(AGAIN).await;
    }
}

async fn listen_over(
    round: &Round,
    redis: &mut Redis,
    who: &Who,
    chance: &mut Chance,
) -> io::Result<()> {
    let topics: Vec<String> = (0..TOPICS).filter(|_| chance.one_in(2)).map(topic).collect();
    let mut words: Vec<&[u8]> = vec![b"SUBSCRIBE", b"barrier"];
    words.extend(topics.iter().map(|topic| topic.as_bytes()));
    let mut commands = Vec::new();
    command(&mut commands, &words);
    let op = Op::Subscribe { topics: topics.clone(), patterns: Vec::new(), everywhere: false };
    round.recorder.add(who, Kind::Invoke, op.clone());
    redis.send(&commands).await?;
    for _ in 1..words.len() {
        redis.reply().await?;
    }
    round.recorder.add(who, Kind::Ok, op);
    loop {
        // Nothing is taken off the socket before a reply has begun, so the wait may be given up.
        let Ok(begun) = timeout(MOMENT, redis.begun()).await else {
            if round.is_quiet() {
                return Ok(());
            }
            continue;
        };
        begun?;
        let Reply::Array(words) = redis.reply().await? else { continue };
        let [Reply::Bulk(kind), Reply::Bulk(topic), Reply::Bulk(payload)] = &words[..] else {
            continue;
        };
        let topic = String::from_utf8_lossy(topic);
        if kind == b"message"
            && let Some(message) = Numbered::read(&topic, payload)
        {
            let after_at = message.publisher.split('@').nth(1).unwrap_or_default();
            let origin = after_at.split('.').next().unwrap_or_default().to_owned();
            let op = Op::Message { message, origin, id: String::new() };
            round.recorder.add(who, Kind::Event, op);
        }
    }
}

#[derive(Debug)]
enum Reply {
    Number,
    Bulk(Vec<u8>),
    Array(Vec<Reply>),
    /// An error, or a status.
    Other,
}

struct Redis {
    stream: BufReader<TcpStream>,
}

impl Redis {
    async fn connect(to: SocketAddr) -> io::Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(to)).await??;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(64 << 10, stream) })
    }

    async fn send(&mut self, commands: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(commands)).await?
    }

    async fn begun(&mut self) -> io::Result<()> {
        self.stream.fill_buf().await.map(|_| ())
    }

    async fn reply(&mut self) -> io::Result<Reply> {
        timeout(PATIENCE, self.read()).await?
    }

    async fn read(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let number = || line[1..].parse::<i64>().map_err(io::Error::other);
        match line.as_bytes().first() {
            Some(b':') => number().map(|_| Reply::Number),
            Some(b'$') => {
                let length = usize::try_from(number()?).map_err(io::Error::other)?;
                let mut bytes = vec![0; length + 2];
                self.stream.read_exact(&mut bytes).await?;
                bytes.truncate(length);
                Ok(Reply::Bulk(bytes))
            }
            Some(b'*' | b'>') => {
                let mut all = Vec::new();
                for _ in 0..number()? {
                    all.push(Box::pin(self.read()).await?);
                }
                Ok(Reply::Array(all))
            }
            _ => Ok(Reply::Other),
        }
    }
}

fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        out.extend(format!("${}\r\n", word.len()).bytes());
        out.extend_from_slice(word);
        out.extend(b"\r\n");
    }
}
