"""Tests of cost.py: python3 infra/test_cost.py"""

import contextlib
import io
import json
import unittest

import cost

PRICES = json.loads((cost.HERE / "prices.json").read_text())


def total(environment, *overrides):
    return sum(line.usd for line in cost.estimate(cost.settings_of(environment, overrides), PRICES))


class Reading(unittest.TestCase):
    def test_values_are_read_as_terraform_reads_them(self):
        text = 'a = "t4g.micro" # small\nb = 14\n# c = 1\nd = true\ne = { initial = 50, ceiling = 500 }\nf = []\ng = null\nh = "#1"\n'
        self.assertEqual(
            cost.assignments(text),
            {"a": "t4g.micro", "b": 14, "d": True, "e": {"initial": 50, "ceiling": 500}, "f": [], "g": None, "h": "#1"},
        )

    def test_what_cannot_be_read_is_an_error(self):
        with self.assertRaisesRegex(cost.CostError, "line 2"):
            cost.assignments("a = 1\nb {\n")
        with self.assertRaisesRegex(cost.CostError, "not a value"):
            cost.assignments("a = var.b\n")

    def test_defaults_come_from_the_stack_and_the_environment_has_the_last_word(self):
        self.assertEqual(cost.settings_of("dev")["instance_type"], "t4g.micro")
        self.assertEqual(cost.settings_of("prod")["instance_type"], "t4g.small")
        self.assertEqual(cost.settings_of("prod")["database_storage_gb"], {"initial": 50, "ceiling": 500})

    def test_every_setting_that_is_counted_exists(self):
        for environment in ("dev", "stage", "prod"):
            cost.estimate(cost.settings_of(environment), PRICES)


class Estimating(unittest.TestCase):
    def test_the_smallest_environment_costs_about_28(self):
        self.assertAlmostEqual(total("dev"), 28, delta=1)

    def test_looking_for_objects_each_minute_grows_with_their_number(self):
        def lists(keys, pipelines):
            prices = PRICES | {"assumed": PRICES["assumed"] | {"keys_below_a_pipeline": keys, "pipelines": pipelines}}
            return [line.usd for line in cost.estimate(cost.settings_of("dev"), prices) if "lists of keys" in line.what]

        self.assertEqual(lists(0, 3), [0.66])
        self.assertEqual(lists(1000, 3), [0.66])
        self.assertEqual(lists(1001, 1), [0.44])
        self.assertEqual(lists(100_000, 1), [21.90])

    def test_what_is_switched_on_is_counted(self):
        self.assertAlmostEqual(total("dev", "nat_gateway=true") - total("dev"), 32.85, places=2)
        self.assertAlmostEqual(total("dev", "instance_type=t3.micro") - total("dev"), 1.46, places=2)
        self.assertAlmostEqual(total("dev", "multi_az=true") - total("dev"), 13.98, places=2)
        self.assertAlmostEqual(total("dev", "watcher_enabled=true") - total("dev"), 0.20, places=2)

    def test_every_environment_stays_within_its_budget(self):
        for environment in ("dev", "stage", "prod"):
            self.assertLess(total(environment), cost.settings_of(environment)["monthly_budget_usd"])

    def test_every_price_names_a_source_that_is_explained(self):
        for table in ("instances", "databases", "units"):
            for name, entry in PRICES[table].items():
                self.assertIn(entry["source"], PRICES["sources"], name)

    def test_an_unknown_price_is_an_error_and_not_a_zero(self):
        with self.assertRaisesRegex(cost.CostError, "no price for the instance type m9g.huge"):
            total("dev", "instance_type=m9g.huge")


class Printing(unittest.TestCase):
    def run_main(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cost.main(list(arguments))
        return code, out.getvalue(), err.getvalue()

    def test_the_report_has_the_day_of_the_prices_each_source_and_a_sum(self):
        code, out, _ = self.run_main("dev")
        self.assertEqual(code, 0)
        self.assertIn(f"prices of {PRICES['date']}", out)
        self.assertRegex(out, r"EC2 t4g\.micro +6\.13  karpenter")
        self.assertRegex(out, r"together +2[0-9]\.[0-9]{2}")

    def test_mistakes_are_told_in_one_line(self):
        for arguments, message in ((["test"], "there is no test.tfvars"), (["dev", "-var", "nat=true"], "not nat=true")):
            code, _, err = self.run_main(*arguments)
            self.assertEqual(code, 1)
            self.assertIn(message, err)


if __name__ == "__main__":
    unittest.main()
