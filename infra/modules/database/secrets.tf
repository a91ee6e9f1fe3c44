# The application's two logins. A password is made while Terraform runs and handed to Secrets Manager as a write-only
# argument: no state and no plan holds it. The logins themselves are made by setup-database.sh on the host, because the
# database cannot be reached from where Terraform runs.

locals {
  logins = {
    app  = { username = "aqueduct_loader", purpose = "loads: member of aqueduct_app" }
    read = { username = "aqueduct_reader", purpose = "looks: member of aqueduct_read" }
  }
}

resource "aws_secretsmanager_secret" "login" {
  #checkov:skip=CKV_AWS_149: AWS's own key; the reader's policy names the secret, and a customer key is 1 USD a month
  #checkov:skip=CKV2_AWS_57: rotated by password_version and setup-database.sh; a rotation function would need a way into the private subnets
  for_each = local.logins

  # A prefix: a secret's name stays taken for as long as it can be recovered, and a second create must not wait for that.
  name_prefix             = "${var.name}-${each.key}-"
  description             = "PostgreSQL login ${each.value.username}, ${each.value.purpose}"
  recovery_window_in_days = var.disposable ? 0 : 30
}

# 40 of letters and digits are 238 bits, and need no quoting anywhere.
ephemeral "random_password" "login" {
  for_each = local.logins

  length  = 40
  special = false
}

resource "aws_secretsmanager_secret_version" "login" {
  for_each = local.logins

  secret_id = aws_secretsmanager_secret.login[each.key].id
  secret_string_wo = jsonencode({
    username = each.value.username
    password = ephemeral.random_password.login[each.key].result
  })
  secret_string_wo_version = var.password_version # a new password is only written when this number moves
}
