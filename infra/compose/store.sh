#!/bin/sh
# SeaweedFS as an S3 store with one identity, whose keys come from the environment.
set -eu
umask 077
cat >/tmp/s3.json <<JSON
{"identities": [{"name": "lea",
  "credentials": [{"accessKey": "$AWS_ACCESS_KEY_ID", "secretKey": "$AWS_SECRET_ACCESS_KEY"}],
  "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
JSON
exec weed server -dir=/data -s3 -s3.port=8333 -s3.config=/tmp/s3.json -volume.max=0
