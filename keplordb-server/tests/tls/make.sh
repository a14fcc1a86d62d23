#!/usr/bin/env bash
# Makes the certificates of the tests anew: `bash make.sh`. Their keys are here for everybody to read, so they prove nothing. They are good
# from 2020 on, because the clock of who runs the tests may be behind that of who made them.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
touch "$work/index"
cat > "$work/ca.conf" <<CONF
[ca]
default_ca = tests
[tests]
dir = $work
database = $work/index
new_certs_dir = $work
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
CONF
make() { # NAME SUBJECT END EXTENSIONS [OPTIONS OF ca]
    openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=$2" -config "$work/ca.conf" -out "$work/request.pem"
    printf '%s\n' "$4" > "$work/extensions"
    openssl ca -batch -notext -config "$work/ca.conf" -in "$work/request.pem" -out "$1.pem" -extfile "$work/extensions" \
        -startdate 20200101000000Z -enddate "$3" "${@:5}" 2> /dev/null
}
by=(-cert ca.pem -keyfile ca.key)
make ca "tests of keplordb" 21200101000000Z $'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign' -selfsign -keyfile ca.key
make server localhost 21200101000000Z \
    $'basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1,DNS:events.test\nextendedKeyUsage=serverAuth' "${by[@]}"
make client client 21200101000000Z $'basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth' "${by[@]}"
make expired client 20210101000000Z $'basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth' "${by[@]}"
rm ca.key
