# What AWS would answer, for tests without an account. Only what is looked at by a provider's check (ARNs, JSON) or by a
# test needs a value; Terraform makes up the rest.

mock_data "aws_caller_identity" {
  defaults = {
    account_id = "123456789012"
    arn        = "arn:aws:iam::123456789012:user/test"
  }
}

mock_data "aws_partition" {
  defaults = {
    partition  = "aws"
    dns_suffix = "amazonaws.com"
  }
}

mock_data "aws_region" {
  defaults = { region = "eu-central-1" }
}

mock_data "aws_availability_zones" {
  defaults = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
}

mock_data "aws_ssm_parameter" {
  defaults = {
    arn            = "arn:aws:ssm:eu-central-1::parameter/aws/service/canonical/ubuntu"
    value          = "ami-0123456789abcdef0"
    insecure_value = "ami-0123456789abcdef0"
  }
}

mock_resource "aws_cloudwatch_log_group" {
  defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:/mock" }
}

mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::123456789012:role/mock" }
}

mock_resource "aws_iam_policy" {
  defaults = { arn = "arn:aws:iam::123456789012:policy/mock" }
}

mock_resource "aws_iam_user" {
  defaults = { arn = "arn:aws:iam::123456789012:user/mock" }
}

mock_resource "aws_iam_openid_connect_provider" {
  defaults = { arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com" }
}

mock_resource "aws_sns_topic" {
  defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:mock" }
}

mock_resource "aws_sqs_queue" {
  defaults = {
    arn = "arn:aws:sqs:eu-central-1:123456789012:mock"
    url = "https://sqs.eu-central-1.amazonaws.com/123456789012/mock"
  }
}

mock_resource "aws_secretsmanager_secret" {
  defaults = { arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:mock-AbCdEf" }
}

mock_resource "aws_db_instance" {
  defaults = {
    arn                = "arn:aws:rds:eu-central-1:123456789012:db:mock"
    address            = "mock.abcdefghijkl.eu-central-1.rds.amazonaws.com"
    port               = 5432
    master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!db-mock-AbCdEf", secret_status = "active", kms_key_id = "mock" }]
  }
}

mock_resource "aws_instance" {
  defaults = {
    id                           = "i-0123456789abcdef0"
    arn                          = "arn:aws:ec2:eu-central-1:123456789012:instance/i-0123456789abcdef0"
    public_ip                    = "203.0.113.10"
    private_ip                   = "10.20.0.10"
    primary_network_interface_id = "eni-0123456789abcdef0"
  }
}

mock_resource "aws_subnet" {
  defaults = { id = "subnet-0123456789abcdef0" }
}

mock_resource "aws_vpc" {
  defaults = { id = "vpc-0123456789abcdef0" }
}

mock_resource "aws_security_group" {
  defaults = { id = "sg-0123456789abcdef0" }
}

mock_resource "aws_cloudwatch_metric_alarm" {
  defaults = { arn = "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:mock" }
}
