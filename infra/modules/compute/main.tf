# One host. It can be thrown away: what it needs comes from S3, parameters and a secret, what it makes goes to the
# database and to CloudWatch.

locals {
  # Graviton families carry a g behind the generation (t4g, m7gd, c8gn); a1 was before that rule.
  family       = split(".", var.instance_type)[0]
  architecture = can(regex("^(a1|[a-z]+[0-9]+g[a-z]*)$", local.family)) ? "arm64" : "amd64"
  burstable    = startswith(local.family, "t")
}

# Canonical's own parameter: the newest image of Ubuntu 26.04 LTS (maintained until April 2031) at the time of the first
# apply.
data "aws_ssm_parameter" "ubuntu" {
  name = "/aws/service/canonical/ubuntu/server/26.04/stable/current/${local.architecture}/hvm/ebs-gp3/ami-id"
}

resource "aws_key_pair" "this" {
  count = var.ec2_public_key == null ? 0 : 1

  key_name   = var.name
  public_key = var.ec2_public_key
}

# A type of another architecture cannot boot the disk that is there: AWS would refuse the change half-way.
resource "terraform_data" "architecture" {
  input = local.architecture
}

resource "aws_instance" "host" {
  #checkov:skip=CKV_AWS_88: a public address instead of a NAT gateway of 33 USD a month; the security group lets nobody in
  #checkov:skip=CKV_AWS_126: five-minute metrics of EC2 beside log-shipper's own of each minute
  #checkov:skip=CKV_AWS_135: every type that makes sense here is EBS-optimized by itself
  ami           = data.aws_ssm_parameter.ubuntu.insecure_value
  instance_type = var.instance_type
  key_name      = one(aws_key_pair.this[*].key_name)

  subnet_id                   = var.subnet_id
  associate_public_ip_address = var.public_address
  vpc_security_group_ids      = [aws_security_group.host.id]
  iam_instance_profile        = aws_iam_instance_profile.host.name

  # cloud-init runs the script once. Without a replacement a changed script would wait for a host that never comes.
  user_data                   = var.user_data
  user_data_replace_on_change = true

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required" # version 2 alone: a forged request cannot fetch the role's credentials
    http_put_response_hop_limit = 1          # and no container can, either
    instance_metadata_tags      = "disabled"
  }

  root_block_device {
    volume_type           = "gp3"
    volume_size           = var.root_volume_gb
    encrypted             = true
    delete_on_termination = true
  }

  dynamic "credit_specification" {
    for_each = local.burstable ? [var.cpu_credits] : []

    content {
      cpu_credits = credit_specification.value
    }
  }

  tags = { Name = "${var.name}-host" }

  lifecycle {
    # Canonical publishes an image every other week. A host is replaced when somebody decides so (README: roll the host);
    # until then unattended-upgrades keeps it patched.
    ignore_changes       = [ami]
    replace_triggered_by = [terraform_data.architecture]
  }

  # The first boot uses the role's rights and the way out.
  depends_on = [
    aws_iam_role_policy.host,
    aws_vpc_security_group_egress_rule.web,
    aws_vpc_security_group_egress_rule.database,
  ]
}
