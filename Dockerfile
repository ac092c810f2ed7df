# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
WORKDIR /src
# librdkafka and OpenSSL are compiled from their crates' sources: the image's C compiler, make and perl are all they need.
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin govledger && cp target/release/govledger /govledger

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/govledger govledger \
    && install -d -o govledger -g govledger -m 0700 /var/lib/govledger
COPY --from=build /govledger /usr/local/bin/govledger
USER govledger
WORKDIR /var/lib/govledger
VOLUME /var/lib/govledger
EXPOSE 8080
ENTRYPOINT ["govledger"]
CMD ["serve"]
