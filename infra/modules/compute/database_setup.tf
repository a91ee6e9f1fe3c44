# The master login makes the ledger, the roles and the two logins, once. The host's own role never reads its secret: a
# second role does, it exists only while somebody sets the database up, and only the host may take it on.

resource "aws_iam_role" "database_setup" {
  count = var.database_setup == null ? 0 : 1

  name                 = "${var.name}-database-setup"
  description          = "Sets up the database of ${var.name}; exists while database_setup_enabled is true"
  max_session_duration = 3600
  permissions_boundary = var.permissions_boundary_arn

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { AWS = aws_iam_role.host.arn }
    }]
  })
}

resource "aws_iam_role_policy" "database_setup" {
  count = var.database_setup == null ? 0 : 1

  name = "read-logins"
  role = aws_iam_role.database_setup[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "ReadTheThreeLogins"
      Effect   = "Allow"
      Action   = ["secretsmanager:GetSecretValue"]
      Resource = values(var.database_setup.secret_arns)
    }]
  })
}

resource "aws_iam_role_policy" "take_on_database_setup" {
  count = var.database_setup == null ? 0 : 1

  name = "take-on-database-setup"
  role = aws_iam_role.host.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "TakeOnTheSetupRole"
      Effect   = "Allow"
      Action   = ["sts:AssumeRole"]
      Resource = aws_iam_role.database_setup[0].arn
    }]
  })
}
