#!/usr/bin/env bash
# Sees to the bucket of Terraform's state, and writes the configuration of the backend.
#
#   state-bucket.sh FILE
#
# Wants ENVIRONMENT and AWS_REGION; takes PROJECT_NAME. Whoever may look at the whole bucket, an administrator's key say, makes it and asserts
# its settings by infra/bootstrap/bootstrap.sh each time. The roles of workflows may not, on purpose: a role of one environment that could
# change the policy of the bucket could read the state of the others. They use the bucket that a person made, once, with the same script.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf 'state-bucket: %s\n' "$*" >&2; }

[ $# = 1 ] || { say 'usage: state-bucket.sh FILE'; exit 2; }
for name in ENVIRONMENT AWS_REGION; do
  [ -n "${!name:-}" ] || { say "the variable $name is not set; docs/ci-cd.md says where it comes from"; exit 2; }
done
file=$1
project=${PROJECT_NAME:-aqueduct}
region=$AWS_REGION
bootstrap=("$here/../../infra/bootstrap/bootstrap.sh" "$ENVIRONMENT" --project "$project" --region "$region" --backend-config "$file")
account=$(aws sts get-caller-identity --query Account --output text)
bucket=$project-tfstate-$account-$region

# May this role use the part that is its environment's, and no more?
may_use() {
  aws s3api list-objects-v2 --bucket "$bucket" --expected-bucket-owner "$account" --prefix "platform/$ENVIRONMENT.tfstate" --max-items 1 \
    >/dev/null 2>&1
}

message=$(aws s3api head-bucket --bucket "$bucket" --expected-bucket-owner "$account" 2>&1 >/dev/null) || true
case "$message" in
  *'(403)'* | *AccessDenied*)
    if may_use; then
      say "the bucket $bucket is here; its settings are for whoever may change them: infra/bootstrap/bootstrap.sh"
      cat >"$file" <<TEXT
bucket       = "$bucket"
key          = "platform/$ENVIRONMENT.tfstate"
region       = "$region"
encrypt      = true
use_lockfile = true
TEXT
      exit
    fi
    ;;
esac
if ! "${bootstrap[@]}"; then
  say "a person with administrator's rights makes the bucket, once: infra/bootstrap/bootstrap.sh $ENVIRONMENT --project $project --region $region"
  exit 4
fi
