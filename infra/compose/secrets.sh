#!/bin/sh
# Writes .env with fresh random passwords, once: compose.yaml reads it, git ignores it, nobody else may read it.
set -eu
cd "$(dirname "$0")"
if [ -e .env ]; then
    echo "error: $(pwd)/.env is there; remove it only together with the volumes (docker compose down -v)" >&2
    exit 2
fi
umask 077
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
{
    echo "POSTGRES_PASSWORD=$(random)"
    echo "MLFLOW_AUTH_ADMIN_PASSWORD=$(random)"
    echo "MLFLOW_FLASK_SERVER_SECRET_KEY=$(random)"
    echo "AWS_ACCESS_KEY_ID=lea$(random | cut -c1-17)"
    echo "AWS_SECRET_ACCESS_KEY=$(random)"
} >.env.partial
mv .env.partial .env
echo "$(pwd)/.env: five fresh secrets"
