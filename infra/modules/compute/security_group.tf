resource "aws_security_group" "host" {
  name        = "${var.name}-host"
  description = "Host of ${var.name}"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-host" }
}

resource "aws_vpc_security_group_ingress_rule" "ssh" {
  for_each = toset(var.ssh_cidrs)

  security_group_id = aws_security_group.host.id
  description       = "SSH"
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = strcontains(each.key, ":") ? null : each.key
  cidr_ipv6         = strcontains(each.key, ":") ? each.key : null
}

locals {
  http_ingress = { for pair in setproduct(var.http_cidrs, [80, 443]) : "${pair[0]} ${pair[1]}" => { cidr = pair[0], port = pair[1] } }
}

resource "aws_vpc_security_group_ingress_rule" "http" {
  #checkov:skip=CKV_AWS_260: http_cidrs is empty by default; opening port 80 is a decision in an environment's tfvars
  for_each = local.http_ingress

  security_group_id = aws_security_group.host.id
  description       = "HTTP"
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = strcontains(each.value.cidr, ":") ? null : each.value.cidr
  cidr_ipv6         = strcontains(each.value.cidr, ":") ? each.value.cidr : null
}

# Out: packages (Ubuntu's mirrors speak HTTP, their packages are signed), AWS's services, and the database. Nothing else,
# so that a program that should not be there has few ways home. DNS and NTP of AWS pass every security group.
resource "aws_vpc_security_group_egress_rule" "web" {
  for_each = { https = 443, http = 80 }

  security_group_id = aws_security_group.host.id
  description       = each.key == "https" ? "AWS services and packages of Docker" : "Mirrors of Ubuntu" # EC2 takes no apostrophe
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_egress_rule" "database" {
  security_group_id            = aws_security_group.host.id
  description                  = "PostgreSQL"
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
  referenced_security_group_id = var.database_security_group_id
}
