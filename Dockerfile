# One static binary and nothing else.
#
#   docker build -t waxwing .
#   docker run --rm waxwing --help
FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    scripts/release.sh \
    && install -D "target/$(rustc -vV | sed -n 's/^host: //p')/dist/waxwing" /out/waxwing \
    && install -d /out/var/lib/waxwing

FROM scratch
COPY --from=build /out/waxwing /waxwing
# The user needs no name; nothing here could tell it.
COPY --from=build --chown=65532:65532 /out/var/lib/waxwing /var/lib/waxwing
USER 65532:65532
ENV WAXWING_NODE_DATA_DIR=/var/lib/waxwing
VOLUME /var/lib/waxwing
# gRPC; links (TCP) and gossip (UDP); HTTP
EXPOSE 7400 7401/tcp 7401/udp 7402
# SIGTERM drains; give it the time: docker stop -t 40
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 CMD ["/waxwing", "health"]
ENTRYPOINT ["/waxwing"]
CMD ["start"]
