//! Both kinds of sockets carry the same bytes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Host, Network, Stream};

fn any() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

async fn check(mut near: Stream, mut far: Stream) {
    near.write_all(b"there").await.unwrap();
    let mut bytes = [0; 5];
    far.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"there");
    far.write_all(b"back!").await.unwrap();
    near.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"back!");
    near.shutdown().await.unwrap();
    assert_eq!(far.read(&mut bytes).await.unwrap(), 0);
}

#[tokio::test]
async fn bytes_go_both_ways() {
    let listener = Host.listen(any()).await.unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let (near, accepted) = tokio::join!(Host.connect(&to), listener.accept());
    check(near.unwrap(), accepted.unwrap().0).await;

    let (near, far) = tokio::io::duplex(64);
    check(Stream::Other(Box::new(near)), Stream::Other(Box::new(far))).await;
}

#[tokio::test]
async fn datagrams_say_where_they_come_from() {
    let (here, there) =
        (Host.datagrams(any()).await.unwrap(), Host.datagrams(any()).await.unwrap());
    here.send_to(b"x", there.local_addr().unwrap()).await.unwrap();
    let mut buffer = [0; 8];
    let (len, from) = there.recv_from(&mut buffer).await.unwrap();
    assert_eq!((&buffer[..len], from), (&b"x"[..], here.local_addr().unwrap()));
}
