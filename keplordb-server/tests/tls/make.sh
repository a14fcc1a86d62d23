#!/usr/bin/env bash
# Makes the certificates of the tests anew: `bash make.sh`. Their keys are here for everybody to read, so they prove nothing.
set -euo pipefail
cd "$(dirname "$0")"
key=(openssl ecparam -name prime256v1 -genkey -noout)
make() { # NAME SUBJECT EXTENSIONS CA
    "${key[@]}" | openssl pkcs8 -topk8 -nocrypt -out "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=$2" -out request.pem
    openssl x509 -req -in request.pem -days 36500 -extfile <(printf '%s\n' "$3") -out "$1.pem" "${@:4}"
    rm request.pem
}
"${key[@]}" | openssl pkcs8 -topk8 -nocrypt -out ca.key
openssl req -x509 -new -key ca.key -subj "/CN=tests of keplordb" -days 36500 -out ca.pem \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign"
server=$'basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1,DNS:events.test\nextendedKeyUsage=serverAuth'
make server localhost "$server" -CA ca.pem -CAkey ca.key -CAcreateserial
rm -f ca.key ca.srl
