# Two zones, because a database subnet group wants two. The host stands in a public subnet with closed ingress, the
# database in private subnets that have no route to the internet: no NAT gateway has to be paid for.

data "aws_region" "current" {}

data "aws_availability_zones" "all" {
  #checkov:skip=CKV_AWS_394: subnets ignore later changes of their zone, see below
  filter {
    name   = "opt-in-status" # without local zones and wavelength zones, where RDS is not to be had
    values = ["opt-in-not-required"]
  }
}

locals {
  zones = { for index, letter in ["a", "b"] : letter => {
    name    = data.aws_availability_zones.all.names[index]
    public  = cidrsubnet(var.cidr, 24 - tonumber(split("/", var.cidr)[1]), index)
    private = cidrsubnet(var.cidr, 24 - tonumber(split("/", var.cidr)[1]), index + 8)
  } }
}

resource "aws_vpc" "this" {
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true # RDS endpoints resolve to private addresses

  tags = { Name = var.name }
}

# Whatever is made without a security group lands in this one: it lets nothing in or out.
resource "aws_default_security_group" "emptied" {
  vpc_id  = aws_vpc.this.id
  ingress = []
  egress  = []

  tags = { Name = "${var.name}-default-unused" }
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = var.name }
}

resource "aws_subnet" "public" {
  for_each = local.zones

  vpc_id                  = aws_vpc.this.id
  availability_zone       = each.value.name
  cidr_block              = each.value.public
  map_public_ip_on_launch = false # a public address is asked for by name, never got by accident

  tags = { Name = "${var.name}-public-${each.key}" }

  lifecycle {
    ignore_changes = [availability_zone] # a zone that AWS adds to the list must not move subnets, and what is in them
  }
}

resource "aws_subnet" "private" {
  for_each = local.zones

  vpc_id            = aws_vpc.this.id
  availability_zone = each.value.name
  cidr_block        = each.value.private

  tags = { Name = "${var.name}-private-${each.key}" }

  lifecycle {
    ignore_changes = [availability_zone]
  }
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-public" }
}

resource "aws_route" "internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "public" {
  for_each = aws_subnet.public

  subnet_id      = each.value.id
  route_table_id = aws_route_table.public.id
}

resource "aws_route_table" "private" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-private" }
}

resource "aws_route_table_association" "private" {
  for_each = aws_subnet.private

  subnet_id      = each.value.id
  route_table_id = aws_route_table.private.id
}

# Free, and keeps loads off the internet. Who may read what is decided by the roles and the buckets' policies; the
# endpoint lets other buckets pass as well, since Ubuntu's mirrors and the AWS CLI stand in some.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${data.aws_region.current.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.public.id, aws_route_table.private.id]

  tags = { Name = "${var.name}-s3" }
}

# One gateway for both zones: a host that can wait for a zone to come back does not need two.
resource "aws_eip" "nat" {
  #checkov:skip=CKV2_AWS_19: the address belongs to the NAT gateway below, not to an instance
  count = var.nat_gateway ? 1 : 0

  domain = "vpc"

  tags = { Name = "${var.name}-nat" }
}

resource "aws_nat_gateway" "this" {
  count = var.nat_gateway ? 1 : 0

  allocation_id = aws_eip.nat[0].id
  subnet_id     = aws_subnet.public["a"].id

  tags = { Name = var.name }

  depends_on = [aws_internet_gateway.this]
}

resource "aws_route" "nat" {
  count = var.nat_gateway ? 1 : 0

  route_table_id         = aws_route_table.private.id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[0].id
}
