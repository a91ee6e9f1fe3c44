# The host's files: infra/host as one archive in the artifact bucket, named by its digest. The first boot fetches and
# checks it, so a changed file is a new archive, a new user data, a new host: nothing is patched in place.

locals {
  host_directory = "${path.module}/../../host"
  host_files = toset([for file in fileset(local.host_directory, "**") : file
  if !startswith(file, "tests/") && !endswith(file, ".md") && !endswith(file, ".tftpl") && !strcontains(file, "__pycache__")])
}

data "archive_file" "host" {
  type             = "tar.gz"
  output_path      = "${path.module}/.host/${local.name}.tar.gz"
  output_file_mode = "0755" # the digest must not depend on the umask of whoever checked out

  dynamic "source" {
    for_each = local.host_files

    content {
      filename = source.key
      content  = file("${local.host_directory}/${source.key}")
    }
  }
}

resource "aws_s3_object" "host" {
  bucket             = module.storage.artifact_bucket
  key                = "host/${data.archive_file.host.output_sha256}.tar.gz"
  source             = data.archive_file.host.output_path
  content_type       = "application/gzip"
  checksum_algorithm = "SHA256"

  lifecycle {
    create_before_destroy = true # the running host's archive goes after the new host has its own
  }
}

locals {
  user_data = templatefile("${local.host_directory}/user-data.sh.tftpl", {
    project             = var.project
    environment         = var.environment
    region              = var.region
    artifact_bucket     = module.storage.artifact_bucket
    host_archive_key    = aws_s3_object.host.key
    host_archive_sha256 = data.archive_file.host.output_sha256

    # The path is the same in all of them; taken from the parameters themselves, so that the host boots after they exist.
    parameters = one(distinct([for parameter in concat(values(aws_ssm_parameter.before_boot), values(aws_ssm_parameter.written_by_others)) :
    join("/", slice(split("/", parameter.name), 0, 3))]))
  })
}
