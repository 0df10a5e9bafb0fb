BEGIN TRANSACTION;
CREATE TABLE audit (
            time TEXT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
            target TEXT NOT NULL, outcome TEXT NOT NULL
        );
INSERT INTO "audit" VALUES('2026-11-21T13:35:19.697Z','ann','create project','process nuclio/cameras','done');
INSERT INTO "audit" VALUES('2026-11-21T13:35:22.066Z','ann','deploy','process nuclio/greeter','done');
INSERT INTO "audit" VALUES('2026-11-21T13:35:23.676Z','ann','deploy','process nuclio/greeter','done');
INSERT INTO "audit" VALUES('2026-11-21T13:35:25.218Z','ann','deploy','process nuclio/greeter','failed: revision 3 of greeter did not become ready: SyntaxError: ''('' was never closed (main.py, line 1)');
INSERT INTO "audit" VALUES('2026-11-21T13:35:27.368Z','ann','make token','write','done');
CREATE TABLE function_events (
            namespace TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
            PRIMARY KEY (namespace, name)
        );
CREATE TABLE functions (
            namespace TEXT NOT NULL, name TEXT NOT NULL, project TEXT NOT NULL,
            desired TEXT NOT NULL CHECK (desired IN ('running', 'stopped', 'imported')),
            revision INTEGER NOT NULL, http_port INTEGER NOT NULL, admin_port INTEGER NOT NULL,
            state TEXT NOT NULL, message TEXT NOT NULL, config TEXT NOT NULL,
            updated TEXT NOT NULL,
            PRIMARY KEY (namespace, name)
        );
INSERT INTO "functions" VALUES('nuclio','greeter','cameras','running',2,32676,26747,'stopped','','{"metadata":{"name":"greeter","namespace":"nuclio","labels":{"nuclio.io/project-name":"cameras"},"annotations":{"type":"detector","spec":"[{\"id\": 1, \"name\": \"face\", \"type\": \"rectangle\"}]"}},"spec":{"description":"Greets","handler":"main:handler","runtime":"python:3.11","env":[{"name":"WORD","value":"second"}],"triggers":{"http":{"kind":"http","name":"http","numWorkers":1,"attributes":{"maxRequestBodySize":33554432}}}}}','2026-11-21T13:35:47.031Z');
CREATE TABLE operation_lines (
            operation INTEGER NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
            number INTEGER NOT NULL, time INTEGER NOT NULL,
            level TEXT NOT NULL, message TEXT NOT NULL,
            PRIMARY KEY (operation, number)
        );
CREATE TABLE operations (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            namespace TEXT NOT NULL, name TEXT NOT NULL, platform TEXT NOT NULL,
            action TEXT NOT NULL, actor TEXT NOT NULL, owner TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'failed')),
            message TEXT NOT NULL, started TEXT NOT NULL, ended TEXT NOT NULL,
            revision INTEGER NOT NULL, config TEXT NOT NULL
        , refused INTEGER NOT NULL DEFAULT 0);
CREATE TABLE projects (
            namespace TEXT NOT NULL, name TEXT NOT NULL,
            description TEXT NOT NULL, owner TEXT NOT NULL, labels TEXT NOT NULL DEFAULT '{}', annotations TEXT NOT NULL DEFAULT '{}',
            PRIMARY KEY (namespace, name)
        );
INSERT INTO "projects" VALUES('nuclio','cameras','street cameras','','{}','{}');
CREATE TABLE revisions (
            namespace TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL,
            created TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('active', 'superseded', 'failed')),
            digest TEXT NOT NULL, config TEXT NOT NULL, code TEXT NOT NULL,
            environment TEXT NOT NULL, interpreter TEXT NOT NULL, message TEXT NOT NULL, origin INTEGER NOT NULL DEFAULT 0, note TEXT NOT NULL DEFAULT '',
            PRIMARY KEY (namespace, name, number),
            FOREIGN KEY (namespace, name) REFERENCES functions ON DELETE CASCADE
        );
INSERT INTO "revisions" VALUES('nuclio','greeter',1,'2026-11-21T13:35:21.117Z','superseded','f217042083e0302e16f347cfbccdb75f222ff144d9addb3618e5ad5147a4429c','{"metadata":{"name":"greeter","namespace":"nuclio","labels":{"nuclio.io/project-name":"cameras"},"annotations":{"type":"detector","spec":"[{\"id\": 1, \"name\": \"face\", \"type\": \"rectangle\"}]"}},"spec":{"description":"Greets","handler":"main:handler","runtime":"python:3.11","env":[{"name":"WORD","value":"first"}],"triggers":{"http":{"kind":"http","name":"http","numWorkers":1,"attributes":{"maxRequestBodySize":33554432}}}}}','@DATA@/functions/nuclio/greeter/revisions/1/code','','@PYTHON@','',0,'');
INSERT INTO "revisions" VALUES('nuclio','greeter',2,'2026-11-21T13:35:22.999Z','active','5375246439e352b47c7b2a6a1b35ca4bd1791f93c8adf4e147b8043d0eadab6a','{"metadata":{"name":"greeter","namespace":"nuclio","labels":{"nuclio.io/project-name":"cameras"},"annotations":{"type":"detector","spec":"[{\"id\": 1, \"name\": \"face\", \"type\": \"rectangle\"}]"}},"spec":{"description":"Greets","handler":"main:handler","runtime":"python:3.11","env":[{"name":"WORD","value":"second"}],"triggers":{"http":{"kind":"http","name":"http","numWorkers":1,"attributes":{"maxRequestBodySize":33554432}}}}}','@DATA@/functions/nuclio/greeter/revisions/2/code','','@PYTHON@','',0,'');
INSERT INTO "revisions" VALUES('nuclio','greeter',3,'2026-11-21T13:35:24.775Z','failed','fb5b6a9f848b849af6c57b11a1fd9229b6482c0595cc5bca78676c30337eef17','{"metadata":{"name":"greeter","namespace":"nuclio","labels":{"nuclio.io/project-name":"cameras"},"annotations":{"type":"detector","spec":"[{\"id\": 1, \"name\": \"face\", \"type\": \"rectangle\"}]"}},"spec":{"description":"Greets","handler":"main:handler","runtime":"python:3.11","env":[{"name":"WORD","value":"second"}],"triggers":{"http":{"kind":"http","name":"http","numWorkers":1,"attributes":{"maxRequestBodySize":33554432}}}}}','@DATA@/functions/nuclio/greeter/revisions/3/code','','@PYTHON@','SyntaxError: ''('' was never closed (main.py, line 1)
  File "/opt/nuclio/main.py", line 1
    def handler(
               ^
SyntaxError: ''('' was never closed',0,'');
CREATE TABLE schema (version INTEGER PRIMARY KEY, applied TEXT NOT NULL);
INSERT INTO "schema" VALUES(1,'2026-11-21T13:35:19Z');
INSERT INTO "schema" VALUES(2,'2026-11-21T13:35:19Z');
INSERT INTO "schema" VALUES(3,'2026-11-21T13:35:19Z');
INSERT INTO "schema" VALUES(4,'2026-11-21T13:35:19Z');
INSERT INTO "schema" VALUES(5,'2026-11-21T13:35:19Z');
INSERT INTO "schema" VALUES(6,'2026-11-21T13:35:19Z');
CREATE TABLE tokens (
            role TEXT PRIMARY KEY CHECK (role IN ('read', 'write')),
            digest TEXT NOT NULL, created TEXT NOT NULL
        );
INSERT INTO "tokens" VALUES('write','a8bff715acd61c2686fdef9165d1153b210217f2ec0ec34ba54eee36557991b4','2026-11-21T13:35:27Z');
CREATE UNIQUE INDEX one_active ON revisions (namespace, name)
            WHERE state = 'active';
CREATE INDEX operations_of ON operations (namespace, name);
CREATE UNIQUE INDEX one_operation ON operations (namespace, name)
            WHERE state IN ('waiting', 'running');
DELETE FROM "sqlite_sequence";
COMMIT;
