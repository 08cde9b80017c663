#!/usr/bin/env bash
# An MLflow server with passwords: runs and registry in BACKEND_URI, artifacts in a bucket that only the server reaches.
# Clients need MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, no key of the store.
set -euo pipefail
umask 077

# Every user may register and promote, and remove the second of two versions of one model.
# A password is hashed once a minute, not for every request (0.1 s and more).
settings=$(mktemp) # of the container
cat >"$settings" <<INI
[mlflow]
default_permission = MANAGE
auth_cache_ttl_seconds = 60
database_uri = $BACKEND_URI
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
INI
export MLFLOW_AUTH_CONFIG_PATH=$settings
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=${MLFLOW_SERVER_ENABLE_JOB_EXECUTION:-false} # eight processes, not needed here

# The buckets, as soon as the store answers.
python - <<'PYTHON'
import os, sys, time
import boto3
from botocore.exceptions import BotoCoreError, ClientError

store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
until = time.monotonic() + 120
for name in os.environ["BUCKETS"].split():
    while True:
        try:
            store.create_bucket(Bucket=name)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                break
            if time.monotonic() > until:
                sys.exit(f"error: the store refuses to make the bucket {name}: {code}")
            time.sleep(1)
        except BotoCoreError as error:
            if time.monotonic() > until:
                sys.exit(f"error: the store does not answer: {error}")
            time.sleep(1)
        else:
            break
PYTHON

exec mlflow server --app-name basic-auth \
    --host "${LISTEN_HOST:-127.0.0.1}" --port "${LISTEN_PORT:-5000}" --workers "${WORKERS:-2}" \
    --backend-store-uri "$BACKEND_URI" \
    --artifacts-destination "s3://$ARTIFACTS_BUCKET" --serve-artifacts
