// Alerts, recording rules and dashboards for those who assemble their monitoring with jsonnet.  Nothing is written twice: this reads the
// generated files beside it, so install the whole folder `deploy` (deploy/README.md).
local file = std.parseYaml(importstr '../prometheus/rules.yml');
local groups(name) = [group for group in file.groups if group.name == name];

{
  _config+:: {
    // Where the runbooks are published; the name of the page is appended.
    runbookUrlPrefix: 'deploy/runbooks/',
    // Address of the audit service, for links to its reports.
    serviceUrl: 'http://127.0.0.1:18878',
    // Labels added to every alert, e.g. a team.
    alertLabels: {},
    // Alert name -> severity, in place of ours.
    severities: {},
    dashboardTags: ['audit-plugin'],
  },

  local config = self._config,

  local rule(alert) = alert {
    labels+: config.alertLabels + {
      [if alert.alert in config.severities then 'severity']: config.severities[alert.alert],
    },
    annotations+: {
      runbook_url: config.runbookUrlPrefix + std.asciiLower(alert.alert) + '.md',
    },
  },

  prometheusAlerts+:: {
    groups+: [
      group { rules: [rule(one) for one in group.rules] }
      for group in groups('audit_plugin.alerts')
    ],
  },

  prometheusRules+:: {
    groups+: groups('audit_plugin.recording'),
  },

  local place(variable, value) = variable { query: value, current: { text: value, value: value } },

  local board(document) = document {
    tags: config.dashboardTags,
    templating+: {
      list: [
        if variable.name == 'runbooks' then place(variable, config.runbookUrlPrefix)
        else if variable.name == 'service' then place(variable, config.serviceUrl)
        else variable
        for variable in document.templating.list
      ],
    },
  },

  grafanaDashboards+:: {
    'audit-plugin-fleet.json': board(import '../grafana/dashboards/fleet.json'),
    'audit-plugin-model.json': board(import '../grafana/dashboards/model.json'),
    'audit-plugin-health.json': board(import '../grafana/dashboards/health.json'),
  },
}
