#!/usr/bin/env bash
# Makes the bucket that Terraform keeps its state in, or says again what it has to be like; then prints the configuration of the
# backend for one environment.
#
#   bootstrap.sh ENVIRONMENT [--project NAME] [--region REGION] [--backend-config FILE]
#
# Terraform cannot make the bucket of its own backend, and a bucket that is in a state it stores would go with it. Credentials
# are the AWS CLI's own (AWS_PROFILE, a role, …), and so is AWS_ENDPOINT_URL. It can be run as often as you like.
#
# Exit codes: 0 the bucket is as it has to be; 1 something did not work; 2 wrong usage; 4 no credentials, no permission, or the
# bucket's name belongs to another account.
set -euo pipefail

say() { printf 'bootstrap: %s\n' "$*" >&2; }
stop() {
  local code=$1
  shift
  say "$@"
  exit "$code"
}

usage() {
  stop 2 "$1; usage: bootstrap.sh {dev|stage|prod} [--project NAME] [--region REGION] [--backend-config FILE]"
}

parse_arguments() {
  environment=''
  project=aqueduct
  region=${AWS_REGION:-${AWS_DEFAULT_REGION:-}}
  backend_config=''
  while [ $# -gt 0 ]; do
    case "$1" in
      --project | --region | --backend-config)
        [ $# -gt 1 ] || usage "$1 wants a value"
        case "$1" in
          --project) project=$2 ;;
          --region) region=$2 ;;
          --backend-config) backend_config=$2 ;;
        esac
        shift 2
        ;;
      -*) usage "there is no flag $1" ;;
      *)
        [ -z "$environment" ] || usage 'one ENVIRONMENT is wanted'
        environment=$1
        shift
        ;;
    esac
  done
  case "$environment" in dev | stage | prod) ;; *) usage 'ENVIRONMENT has to be dev, stage or prod' ;; esac
  # As Terraform and the workflows have it.
  [[ $project =~ ^[a-z][a-z0-9-]{1,20}[a-z0-9]$ ]] || usage '--project has to be 3 to 22 small letters, digits and -'
  [[ $region =~ ^[a-z]{2}(-[a-z]+)+-[0-9]$ ]] || usage 'a region is wanted: --region eu-west-1, or AWS_REGION'
  # Written last, so looked at first.
  if [ -n "$backend_config" ] && { [ ! -d "$(dirname "$backend_config")" ] || [ -d "$backend_config" ]; }; then
    usage "--backend-config $backend_config: this has to be a file, in a directory that exists"
  fi
  export AWS_REGION=$region AWS_DEFAULT_REGION=$region
}

# Somebody else can own any name, so account and region are in it, and every request says whose bucket it means.
find_bucket_name() {
  local arn
  command -v aws >/dev/null || stop 1 'the AWS CLI is missing; install version 2: https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html'
  read -r account arn < <(aws sts get-caller-identity --query '[Account,Arn]' --output text) \
    || stop 4 'no credentials that AWS knows; set AWS_PROFILE, or run where a role is attached'
  # aws, aws-cn, aws-us-gov: the policy's ARNs want it.
  partition=$(cut -d : -f 2 <<<"$arn")
  bucket=$project-tfstate-$account-$region
}

# s3api COMMAND ARGUMENT…: on the bucket, if it is this account's.
s3api() {
  local command=$1
  shift
  aws s3api "$command" --bucket "$bucket" --expected-bucket-owner "$account" "$@"
}

foreign() {
  stop 4 "the name $bucket belongs to another account, or this one may not look at it (s3:ListBucket). Nothing was changed;" \
    'take another name with --project, or ask who owns it. Never keep state in a bucket that is not yours'
}

make_bucket() {
  local message where=()
  # The one region that may not be named.
  if [ "$region" != us-east-1 ]; then where=(--create-bucket-configuration "LocationConstraint=$region"); fi
  if message=$(aws s3api create-bucket --bucket "$bucket" --object-ownership BucketOwnerEnforced "${where[@]}" 2>&1 >/dev/null); then
    say "made the bucket $bucket"
    return
  fi
  case "$message" in
    *BucketAlreadyOwnedByYou*) ;; # another bootstrap was quicker
    *BucketAlreadyExists*) foreign ;;
    *AccessDenied*) stop 4 "no permission to make the bucket $bucket (s3:CreateBucket): $message" ;;
    *) stop 1 "the bucket $bucket could not be made: $message" ;;
  esac
}

find_or_make_bucket() {
  local message
  if message=$(s3api head-bucket 2>&1 >/dev/null); then
    say "the bucket $bucket is here"
    return
  fi
  case "$message" in
    *'(404)'*) make_bucket ;;
    *'(403)'* | *AccessDenied*) foreign ;;
    *) stop 1 "the bucket $bucket cannot be looked at: $message" ;;
  esac
}

policy() {
  local arn=arn:$partition:s3:::$bucket
  cat <<JSON
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "OnlyOverTls",
      "Effect": "Deny",
      "Principal": "*",
      "Action": "s3:*",
      "Resource": ["$arn", "$arn/*"],
      "Condition": { "Bool": { "aws:SecureTransport": "false" } }
    },
    {
      "Sid": "NobodyDeletesTheRecord",
      "Effect": "Deny",
      "Principal": "*",
      "Action": "s3:DeleteBucket",
      "Resource": "$arn"
    }
  ]
}
JSON
}

lifecycle() {
  cat <<'JSON'
{
  "Rules": [
    {
      "ID": "old-versions",
      "Status": "Enabled",
      "Filter": { "Prefix": "" },
      "NoncurrentVersionExpiration": { "NoncurrentDays": 90, "NewerNoncurrentVersions": 10 },
      "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": 7 }
    }
  ]
}
JSON
}

# All of it each time: what somebody changed in the console is put right.
assert_settings() {
  s3api put-public-access-block --public-access-block-configuration \
    'BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true'
  s3api put-bucket-versioning --versioning-configuration Status=Enabled
  s3api put-bucket-encryption --server-side-encryption-configuration \
    '{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"}}]}'
  s3api put-bucket-lifecycle-configuration --lifecycle-configuration "$(lifecycle)" >/dev/null
  s3api put-bucket-tagging --tagging \
    "TagSet=[{Key=project,Value=$project},{Key=purpose,Value=terraform-state},{Key=managed-by,Value=bootstrap}]"
  s3api put-bucket-policy --policy "$(policy)"
  say 'versioning, encryption, no public access, TLS only, expiry of old versions, tags: as they have to be'
}

backend() {
  cat <<TEXT
bucket       = "$bucket"
key          = "platform/$environment.tfstate"
region       = "$region"
encrypt      = true
use_lockfile = true
TEXT
}

write_backend() {
  if [ -z "$backend_config" ]; then
    backend
  else
    backend >"$backend_config"
    say "wrote $backend_config; next: terraform -chdir=infra/stacks/platform init -backend-config=$(realpath "$backend_config")"
  fi
}

main() {
  parse_arguments "$@"
  find_bucket_name
  find_or_make_bucket
  assert_settings
  write_backend
}

main "$@"
