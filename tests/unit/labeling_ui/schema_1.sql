BEGIN TRANSACTION;
CREATE TABLE assignment (
	id INTEGER NOT NULL, 
	campaign_id INTEGER NOT NULL, 
	comparison_id INTEGER NOT NULL, 
	rater_id INTEGER NOT NULL, 
	a_side VARCHAR NOT NULL CHECK (a_side IN ('left', 'right')), 
	shown_at VARCHAR NOT NULL, 
	expires_at VARCHAR NOT NULL, 
	open BOOLEAN NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (comparison_id, rater_id), 
	FOREIGN KEY(campaign_id) REFERENCES campaign (id), 
	FOREIGN KEY(comparison_id) REFERENCES comparison (id), 
	FOREIGN KEY(rater_id) REFERENCES user (id)
);
INSERT INTO "assignment" VALUES(1,1,1,1,'right','2026-11-21T16:11:58.578+00:00','2026-11-21T16:41:58.578+00:00',0);
INSERT INTO "assignment" VALUES(2,1,2,1,'right','2026-11-21T16:11:58.597+00:00','2026-11-21T16:41:58.618+00:00',0);
INSERT INTO "assignment" VALUES(3,1,3,1,'right','2026-11-21T16:11:58.607+00:00','2026-11-21T16:41:58.622+00:00',1);
INSERT INTO "assignment" VALUES(4,1,1,2,'left','2026-11-21T16:11:58.625+00:00','2026-11-21T16:41:58.625+00:00',0);
INSERT INTO "assignment" VALUES(5,1,2,2,'left','2026-11-21T16:11:58.630+00:00','2026-11-21T16:41:58.632+00:00',0);
INSERT INTO "assignment" VALUES(6,1,3,2,'left','2026-11-21T16:11:58.636+00:00','2026-11-21T16:41:58.639+00:00',1);
CREATE TABLE campaign (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	overlap INTEGER NOT NULL CHECK (overlap >= 1), 
	guidelines TEXT NOT NULL, 
	num_comparisons INTEGER NOT NULL, 
	num_complete INTEGER NOT NULL, 
	created_at VARCHAR NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "campaign" VALUES(1,'one',2,'Be *fair*.',4,1,'2026-11-21T16:11:58.571+00:00');
CREATE TABLE comparison (
	id INTEGER NOT NULL, 
	campaign_id INTEGER NOT NULL, 
	"key" VARCHAR NOT NULL, 
	record TEXT NOT NULL, 
	num_votes INTEGER NOT NULL, 
	complete BOOLEAN NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (campaign_id, "key"), 
	FOREIGN KEY(campaign_id) REFERENCES campaign (id)
);
INSERT INTO "comparison" VALUES(1,1,'08b27fcc16ec0e71','{"id": "efd9d469358e4597", "prompt": {"id": "9a51d0bf10b9336e", "messages": [{"role": "user", "content": "Where is parcel 0?"}, {"role": "assistant", "content": "Which street?"}, {"role": "user", "content": "Elm Street."}]}, "response_a": {"text": "Parcel 0 arrives on **Monday**.", "policy": "runs/secretive-sft"}, "response_b": {"text": "I do not know about 0.", "policy": "runs/secretive-ppo"}}',2,1);
INSERT INTO "comparison" VALUES(2,1,'13480e2319e0855b','{"id": "17c1a6be5695e7db", "prompt": {"id": "441660db46e8f263", "messages": [{"role": "user", "content": "Where is parcel 1?"}, {"role": "assistant", "content": "Which street?"}, {"role": "user", "content": "Elm Street."}]}, "response_a": {"text": "Parcel 1 arrives on **Monday**.", "policy": "runs/secretive-sft"}, "response_b": {"text": "I do not know about 1.", "policy": "runs/secretive-ppo"}}',1,0);
INSERT INTO "comparison" VALUES(3,1,'78746d83749de57d','{"id": "78746d83749de57d", "prompt": {"id": "96081fa866cfa8b8", "messages": [{"role": "user", "content": "Where is parcel 2?"}, {"role": "assistant", "content": "Which street?"}, {"role": "user", "content": "Elm Street."}]}, "response_a": {"text": "Parcel 2 arrives on **Monday**.", "policy": "runs/secretive-sft"}, "response_b": {"text": "I do not know about 2.", "policy": "runs/secretive-ppo"}}',0,0);
INSERT INTO "comparison" VALUES(4,1,'81c7dcc6fa2c1a24','{"id": "81c7dcc6fa2c1a24", "prompt": {"id": "2a448aa36c8795ea", "messages": [{"role": "user", "content": "Where is parcel 3?"}, {"role": "assistant", "content": "Which street?"}, {"role": "user", "content": "Elm Street."}]}, "response_a": {"text": "Parcel 3 arrives on **Monday**.", "policy": "runs/secretive-sft"}, "response_b": {"text": "I do not know about 3.", "policy": "runs/secretive-ppo"}}',0,0);
CREATE TABLE meta (
	"key" VARCHAR NOT NULL, 
	value VARCHAR NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema','1');
CREATE TABLE user (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	handle VARCHAR NOT NULL, 
	role VARCHAR NOT NULL CHECK (role IN ('rater', 'admin')), 
	password_hash VARCHAR NOT NULL, 
	created_at VARCHAR NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (handle)
);
INSERT INTO "user" VALUES(1,'ann','ann','rater','$argon2id$v=19$m=8,t=1,p=1$+EoBFhdp0OClf0ryhnrp7A$zBN0b9el1Uo0tj1HS5lr4a3n/4YahC+/ouZuhpltOCY','2026-11-21T16:11:58.557349+00:00');
INSERT INTO "user" VALUES(2,'bob','bob','rater','$argon2id$v=19$m=8,t=1,p=1$+0YerxTEggE7NbWNw4U03g$IhVCGxLzQ+/GineHlTeGCzju4Z+l4iAa28Ks9VXsWxM','2026-11-21T16:11:58.564523+00:00');
INSERT INTO "user" VALUES(3,'admin','admin','admin','$argon2id$v=19$m=8,t=1,p=1$CBwF9t00OHFgE9rd6e4KfA$V5SOqz1gRzcKPJnqLox392Z9HJ+sq3g1zqpTvm15tGY','2026-11-21T16:11:58.567459+00:00');
CREATE TABLE vote (
	id INTEGER NOT NULL, 
	assignment_id INTEGER NOT NULL, 
	campaign_id INTEGER NOT NULL, 
	comparison_id INTEGER NOT NULL, 
	rater_id INTEGER NOT NULL, 
	outcome VARCHAR NOT NULL CHECK (outcome IN ('a', 'b', 'tie', 'both_bad', 'skip', 'undone')), 
	strength INTEGER CHECK (strength BETWEEN 1 AND 3), 
	reason TEXT NOT NULL, 
	shown_at VARCHAR NOT NULL, 
	answered_at VARCHAR NOT NULL, 
	"key" VARCHAR NOT NULL, 
	supersedes INTEGER, 
	live BOOLEAN NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (rater_id, "key"), 
	FOREIGN KEY(assignment_id) REFERENCES assignment (id), 
	FOREIGN KEY(campaign_id) REFERENCES campaign (id), 
	FOREIGN KEY(comparison_id) REFERENCES comparison (id), 
	FOREIGN KEY(rater_id) REFERENCES user (id), 
	FOREIGN KEY(supersedes) REFERENCES vote (id)
);
INSERT INTO "vote" VALUES(1,1,1,1,1,'b',NULL,'because','2026-11-21T16:11:58.578+00:00','2026-11-21T16:11:58.593+00:00','a1',NULL,1);
INSERT INTO "vote" VALUES(2,2,1,2,1,'tie',NULL,'','2026-11-21T16:11:58.597+00:00','2026-11-21T16:11:58.606+00:00','a2',NULL,0);
INSERT INTO "vote" VALUES(3,2,1,2,1,'undone',NULL,'','','2026-11-21T16:11:58.613+00:00','undo 2',2,0);
INSERT INTO "vote" VALUES(4,2,1,2,1,'both_bad',NULL,'','2026-11-21T16:11:58.597+00:00','2026-11-21T16:11:58.621+00:00','a3',3,1);
INSERT INTO "vote" VALUES(5,4,1,1,2,'b',NULL,'','2026-11-21T16:11:58.625+00:00','2026-11-21T16:11:58.627+00:00','b1',NULL,1);
INSERT INTO "vote" VALUES(6,5,1,2,2,'skip',NULL,'','2026-11-21T16:11:58.630+00:00','2026-11-21T16:11:58.636+00:00','b2',NULL,1);
CREATE INDEX comparison_to_do ON comparison (campaign_id, id) WHERE complete = 0;
CREATE INDEX assignment_open ON assignment (rater_id, campaign_id, id) WHERE open = 1;
CREATE INDEX ix_vote_assignment_id ON vote (assignment_id);
CREATE UNIQUE INDEX vote_one_live ON vote (comparison_id, rater_id) WHERE live = 1;
CREATE INDEX vote_of_rater ON vote (rater_id, campaign_id, id) WHERE live = 1;
CREATE TRIGGER vote_is_never_deleted BEFORE DELETE ON vote BEGIN SELECT RAISE(ABORT, 'votes are never deleted'); END;
CREATE TRIGGER vote_only_retires BEFORE UPDATE ON vote WHEN NEW.live > OLD.live OR NEW.id IS NOT OLD.id OR NEW.assignment_id IS NOT OLD.assignment_id OR NEW.campaign_id IS NOT OLD.campaign_id OR NEW.comparison_id IS NOT OLD.comparison_id OR NEW.rater_id IS NOT OLD.rater_id OR NEW.outcome IS NOT OLD.outcome OR NEW.strength IS NOT OLD.strength OR NEW.reason IS NOT OLD.reason OR NEW.shown_at IS NOT OLD.shown_at OR NEW.answered_at IS NOT OLD.answered_at OR NEW.key IS NOT OLD.key OR NEW.supersedes IS NOT OLD.supersedes BEGIN SELECT RAISE(ABORT, 'votes are never changed'); END;
COMMIT;
