//! Compiles `proto/` without protoc.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let public = [
        "waxwing/v1/frames.proto",
        "waxwing/v1/session.proto",
        "waxwing/v1/pubsub.proto",
        "waxwing/v1/presence.proto",
        "waxwing/v1/admin.proto",
        "waxwing/v1/control.proto",
    ];
    let peer = [
        "waxwing/peer/v1/link.proto",
        "waxwing/peer/v1/presence.proto",
        "waxwing/peer/v1/router.proto",
    ];
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    let public = protox::compile(public, ["proto"])?;
    // Served by gRPC reflection, so that grpcurl needs no files.
    std::fs::write(out.join("waxwing_v1.bin"), prost::Message::encode_to_vec(&public))?;
    let peer = protox::compile(peer, ["proto"])?;
    for descriptors in [public, peer] {
        // What holds a resume token shows itself in src/wire.
        let secret = [
            ".waxwing.v1.Hello",
            ".waxwing.v1.Welcome",
            ".waxwing.v1.AcquireLeaseRequest",
            ".waxwing.v1.AcquireLeaseResponse",
            ".waxwing.v1.RenewLeaseRequest",
            ".waxwing.v1.ReleaseLeaseRequest",
            ".waxwing.v1.CreateKeyResponse",
            ".waxwing.v1.BackupPart",
        ];
        tonic_prost_build::configure().bytes(".").skip_debug(secret).compile_fds(descriptors)?;
    }
    Ok(())
}
