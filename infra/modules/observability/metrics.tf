# Metrics of loads. etl-runner's lines carry metrics of their own (namespace Aqueduct, by pipeline and table), but those
# of all environments of an account share their names, and an alarm has to name each pipeline. Filters on this
# environment's log group make the four sums that alarms and dashboard need, whatever pipelines there are.

locals {
  namespace = "Aqueduct/${var.name}"

  filters = {
    # Not the loads that were merely too early, for want of a connection or of a lock (exit 75): the next minute tries them
    # again. Lines of releases from before MayPass lack the field, and whether a comparison holds of a field that is not there
    # is nothing to rely on.
    LoadsFailed     = { group = "etl-runner", pattern = "{ ($.LoadFailed = 1) && (($.MayPass NOT EXISTS) || ($.MayPass != 1)) }", value = "1" }
    RecordsLoaded   = { group = "etl-runner", pattern = "{ $.Loaded > 0 }", value = "$.Loaded" }
    RecordsRejected = { group = "etl-runner", pattern = "{ $.Rejected > 0 }", value = "$.Rejected" }

    # A run that cannot begin (no connection, a wrong setting) writes no metrics. systemd says in the journal that the unit
    # failed; a busy minute (exit 75) counts as success there.
    RunsFailed = { group = "host", pattern = "\"aqueduct-load\" \"Failed with result\"", value = "1" }
  }
}

resource "aws_cloudwatch_log_metric_filter" "this" {
  for_each = local.filters

  name           = each.key
  log_group_name = aws_cloudwatch_log_group.this[each.value.group].name
  pattern        = each.value.pattern

  metric_transformation {
    name          = each.key
    namespace     = local.namespace
    value         = each.value.value
    default_value = "0" # while lines come and none matches, the metric is 0 and an alarm goes back to OK
    unit          = "Count"
  }
}
