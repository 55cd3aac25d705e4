//! Generated from Apache Kafka 4.3.1's message definitions (Apache License 2.0) by
//! `scripts/gen-schema.py kafka-clients-4.3.1.jar > src/wire/guard/schema.rs`. Do not edit.
//!
//! `f(field_type, first version, last)`, `127` = every later version; `s(decoded bytes, fields)`.

use super::table::FieldType::{Blob, Fixed, Struct, Text};
use super::table::{MessageSchema, StructSchema, f, m, s};

pub(super) static REQUESTS: [MessageSchema; 31] = [
    m(0,3,13,9,2),
    m(1,4,18,12,13),
    m(2,1,11,6,24),
    m(3,0,13,9,29),
    m(10,0,6,3,34),
    m(16,0,5,3,37),
    m(17,0,1,127,40),
    m(18,0,4,3,42),
    m(19,2,7,5,50),
    m(20,1,6,4,55),
    m(21,0,2,2,60),
    m(22,0,6,2,64),
    m(23,2,4,4,68),
    m(24,0,5,3,75),
    m(27,1,2,1,84),
    m(32,1,4,4,90),
    m(33,0,2,2,97),
    m(35,1,5,2,101),
    m(36,0,2,2,106),
    m(37,0,3,2,110),
    m(43,0,2,2,114),
    m(44,0,1,1,120),
    m(60,0,2,0,123),
    m(61,0,0,0,127),
    m(66,0,2,0,132),
    m(71,0,0,0,135),
    m(72,0,0,0,137),
    m(75,0,0,0,141),
    m(76,1,1,0,146),
    m(78,1,2,0,154),
    m(79,1,2,0,164),
];

pub(super) static RESPONSES: [MessageSchema; 31] = [
    m(0,3,13,9,8),
    m(1,4,18,12,21),
    m(2,1,11,6,27),
    m(3,0,13,9,33),
    m(10,0,6,3,36),
    m(16,0,5,3,39),
    m(17,0,1,127,41),
    m(18,0,4,3,46),
    m(19,2,7,5,53),
    m(20,1,6,4,57),
    m(21,0,2,2,63),
    m(22,0,6,2,65),
    m(23,2,4,4,71),
    m(24,0,5,3,81),
    m(27,1,2,1,88),
    m(32,1,4,4,94),
    m(33,0,2,2,99),
    m(35,1,5,2,105),
    m(36,0,2,2,107),
    m(37,0,3,2,112),
    m(43,0,2,2,117),
    m(44,0,1,1,122),
    m(60,0,2,0,125),
    m(61,0,0,0,131),
    m(66,0,2,0,134),
    m(71,0,0,0,136),
    m(72,0,0,0,138),
    m(75,0,0,0,145),
    m(76,1,1,0,149),
    m(78,1,2,0,160),
    m(79,1,2,0,169),
];

/// Every API: its key and the first flexible version of its request and of its response.
pub(in crate::wire) static FIRST_FLEXIBLE: [(i16, i16, i16); 89] = [
    (0, 9, 9),
    (1, 12, 12),
    (2, 6, 6),
    (3, 9, 9),
    (8, 8, 8),
    (9, 6, 6),
    (10, 3, 3),
    (11, 6, 6),
    (12, 4, 4),
    (13, 4, 4),
    (14, 4, 4),
    (15, 5, 5),
    (16, 3, 3),
    (17, 127, 127),
    (18, 3, 3),
    (19, 5, 5),
    (20, 4, 4),
    (21, 2, 2),
    (22, 2, 2),
    (23, 4, 4),
    (24, 3, 3),
    (25, 3, 3),
    (26, 3, 3),
    (27, 1, 1),
    (28, 3, 3),
    (29, 2, 2),
    (30, 2, 2),
    (31, 2, 2),
    (32, 4, 4),
    (33, 2, 2),
    (34, 2, 2),
    (35, 2, 2),
    (36, 2, 2),
    (37, 2, 2),
    (38, 2, 2),
    (39, 2, 2),
    (40, 2, 2),
    (41, 2, 2),
    (42, 2, 2),
    (43, 2, 2),
    (44, 1, 1),
    (45, 0, 0),
    (46, 0, 0),
    (47, 127, 127),
    (48, 1, 1),
    (49, 1, 1),
    (50, 0, 0),
    (51, 0, 0),
    (52, 0, 0),
    (53, 1, 1),
    (54, 1, 1),
    (55, 0, 0),
    (56, 0, 0),
    (57, 0, 0),
    (58, 0, 0),
    (59, 0, 0),
    (60, 0, 0),
    (61, 0, 0),
    (62, 0, 0),
    (63, 0, 0),
    (64, 0, 0),
    (65, 0, 0),
    (66, 0, 0),
    (67, 0, 0),
    (68, 0, 0),
    (69, 0, 0),
    (70, 0, 0),
    (71, 0, 0),
    (72, 0, 0),
    (73, 0, 0),
    (74, 0, 0),
    (75, 0, 0),
    (76, 0, 0),
    (77, 0, 0),
    (78, 0, 0),
    (79, 0, 0),
    (80, 0, 0),
    (81, 0, 0),
    (82, 0, 0),
    (83, 0, 0),
    (84, 0, 0),
    (85, 0, 0),
    (86, 0, 0),
    (87, 0, 0),
    (88, 0, 0),
    (89, 0, 0),
    (90, 0, 0),
    (91, 0, 0),
    (92, 0, 0),
];

pub(super) static STRUCTS: [StructSchema; 170] = [
    // 0 ProduceRequest.TopicProduceData.PartitionProduceData
    s(64, &[f(Fixed(4),0,127), f(Blob,0,127).null(0,127)]),
    // 1 ProduceRequest.TopicProduceData
    s(96, &[f(Text,0,12), f(Fixed(16),13,127), f(Struct(0),0,127).array()]),
    // 2 ProduceRequest
    s(96, &[f(Text,3,127).null(3,127), f(Fixed(2),0,127), f(Fixed(4),0,127),
        f(Struct(1),0,127).array()]),
    // 3 ProduceResponse.TopicProduceResponse.PartitionProduceResponse.BatchIndexAndErrorMessage
    s(64, &[f(Fixed(4),8,127), f(Text,8,127).null(8,127)]),
    // 4 ProduceResponse.TopicProduceResponse.PartitionProduceResponse.LeaderIdAndEpoch
    s(40, &[f(Fixed(4),10,127), f(Fixed(4),10,127)]),
    // 5 ProduceResponse.TopicProduceResponse.PartitionProduceResponse
    s(168, &[f(Fixed(4),0,127), f(Fixed(2),0,127), f(Fixed(8),0,127), f(Fixed(8),2,127),
        f(Fixed(8),5,127), f(Struct(3),8,127).array(), f(Text,8,127).null(8,127),
        f(Struct(4),10,127).tag(0,10,127)]),
    // 6 ProduceResponse.TopicProduceResponse
    s(96, &[f(Text,0,12), f(Fixed(16),13,127), f(Struct(5),0,127).array()]),
    // 7 ProduceResponse.NodeEndpoint
    s(104, &[f(Fixed(4),10,127), f(Text,10,127), f(Fixed(4),10,127), f(Text,10,127).null(10,127)]),
    // 8 ProduceResponse
    s(80, &[f(Struct(6),0,127).array(), f(Fixed(4),1,127),
        f(Struct(7),10,127).array().tag(0,10,127)]),
    // 9 FetchRequest.ReplicaState
    s(40, &[f(Fixed(4),15,127), f(Fixed(8),15,127)]),
    // 10 FetchRequest.FetchTopic.FetchPartition
    s(96, &[f(Fixed(4),0,127), f(Fixed(4),9,127), f(Fixed(8),0,127), f(Fixed(4),12,127),
        f(Fixed(8),5,127), f(Fixed(4),0,127), f(Fixed(16),17,127).tag(0,17,127),
        f(Fixed(8),18,127).tag(1,18,127)]),
    // 11 FetchRequest.FetchTopic
    s(96, &[f(Text,0,12), f(Fixed(16),13,127), f(Struct(10),0,127).array()]),
    // 12 FetchRequest.ForgottenTopic
    s(96, &[f(Text,7,12), f(Fixed(16),13,127), f(Fixed(4),7,127).array()]),
    // 13 FetchRequest
    s(240, &[f(Text,12,127).null(12,127).tag(0,12,127), f(Fixed(4),0,14),
        f(Struct(9),15,127).tag(1,15,127), f(Fixed(4),0,127), f(Fixed(4),0,127), f(Fixed(4),3,127),
        f(Fixed(1),4,127), f(Fixed(4),7,127), f(Fixed(4),7,127), f(Struct(11),0,127).array(),
        f(Struct(12),7,127).array(), f(Text,11,127)]),
    // 14 FetchResponse.FetchableTopicResponse.PartitionData.EpochEndOffset
    s(40, &[f(Fixed(4),12,127), f(Fixed(8),12,127)]),
    // 15 FetchResponse.FetchableTopicResponse.PartitionData.LeaderIdAndEpoch
    s(40, &[f(Fixed(4),12,127), f(Fixed(4),12,127)]),
    // 16 FetchResponse.FetchableTopicResponse.PartitionData.SnapshotId
    s(40, &[f(Fixed(8),0,127), f(Fixed(4),0,127)]),
    // 17 FetchResponse.FetchableTopicResponse.PartitionData.AbortedTransaction
    s(40, &[f(Fixed(8),4,127), f(Fixed(8),4,127)]),
    // 18 FetchResponse.FetchableTopicResponse.PartitionData
    s(272, &[f(Fixed(4),0,127), f(Fixed(2),0,127), f(Fixed(8),0,127), f(Fixed(8),4,127),
        f(Fixed(8),5,127), f(Struct(14),12,127).tag(0,12,127), f(Struct(15),12,127).tag(1,12,127),
        f(Struct(16),12,127).tag(2,12,127), f(Struct(17),4,127).array().null(4,127),
        f(Fixed(4),11,127), f(Blob,0,127).null(0,127)]),
    // 19 FetchResponse.FetchableTopicResponse
    s(96, &[f(Text,0,12), f(Fixed(16),13,127), f(Struct(18),0,127).array()]),
    // 20 FetchResponse.NodeEndpoint
    s(104, &[f(Fixed(4),16,127), f(Text,16,127), f(Fixed(4),16,127), f(Text,16,127).null(16,127)]),
    // 21 FetchResponse
    s(96, &[f(Fixed(4),1,127), f(Fixed(2),7,127), f(Fixed(4),7,127), f(Struct(19),0,127).array(),
        f(Struct(20),16,127).array().tag(0,16,127)]),
    // 22 ListOffsetsRequest.ListOffsetsTopic.ListOffsetsPartition
    s(48, &[f(Fixed(4),0,127), f(Fixed(4),4,127), f(Fixed(8),0,127)]),
    // 23 ListOffsetsRequest.ListOffsetsTopic
    s(80, &[f(Text,0,127), f(Struct(22),0,127).array()]),
    // 24 ListOffsetsRequest
    s(72, &[f(Fixed(4),0,127), f(Fixed(1),2,127), f(Struct(23),0,127).array(), f(Fixed(4),10,127)]),
    // 25 ListOffsetsResponse.ListOffsetsTopicResponse.ListOffsetsPartitionResponse
    s(64, &[f(Fixed(4),0,127), f(Fixed(2),0,127), f(Fixed(8),1,127), f(Fixed(8),1,127),
        f(Fixed(4),4,127)]),
    // 26 ListOffsetsResponse.ListOffsetsTopicResponse
    s(80, &[f(Text,0,127), f(Struct(25),0,127).array()]),
    // 27 ListOffsetsResponse
    s(56, &[f(Fixed(4),2,127), f(Struct(26),0,127).array()]),
    // 28 MetadataRequest.MetadataRequestTopic
    s(72, &[f(Fixed(16),10,127), f(Text,0,127).null(10,127)]),
    // 29 MetadataRequest
    s(72, &[f(Struct(28),0,127).array().null(1,127), f(Fixed(1),4,127), f(Fixed(1),8,10),
        f(Fixed(1),8,127)]),
    // 30 MetadataResponse.MetadataResponseBroker
    s(104, &[f(Fixed(4),0,127), f(Text,0,127), f(Fixed(4),0,127), f(Text,1,127).null(1,127)]),
    // 31 MetadataResponse.MetadataResponseTopic.MetadataResponsePartition
    s(128, &[f(Fixed(2),0,127), f(Fixed(4),0,127), f(Fixed(4),0,127), f(Fixed(4),7,127),
        f(Fixed(4),0,127).array(), f(Fixed(4),0,127).array(), f(Fixed(4),5,127).array()]),
    // 32 MetadataResponse.MetadataResponseTopic
    s(120, &[f(Fixed(2),0,127), f(Text,0,127).null(12,127), f(Fixed(16),10,127), f(Fixed(1),1,127),
        f(Struct(31),0,127).array(), f(Fixed(4),8,127)]),
    // 33 MetadataResponse
    s(136, &[f(Fixed(4),3,127), f(Struct(30),0,127).array(), f(Text,2,127).null(2,127),
        f(Fixed(4),1,127), f(Struct(32),0,127).array(), f(Fixed(4),8,10), f(Fixed(2),13,127)]),
    // 34 FindCoordinatorRequest
    s(88, &[f(Text,0,3), f(Fixed(1),1,127), f(Text,4,127).array()]),
    // 35 FindCoordinatorResponse.Coordinator
    s(144, &[f(Text,4,127), f(Fixed(4),4,127), f(Text,4,127), f(Fixed(4),4,127), f(Fixed(2),4,127),
        f(Text,4,127).null(4,127)]),
    // 36 FindCoordinatorResponse
    s(144, &[f(Fixed(4),1,127), f(Fixed(2),0,3), f(Text,1,3).null(1,3), f(Fixed(4),0,3),
        f(Text,0,3), f(Fixed(4),0,3), f(Struct(35),4,127).array()]),
    // 37 ListGroupsRequest
    s(72, &[f(Text,4,127).array(), f(Text,5,127).array()]),
    // 38 ListGroupsResponse.ListedGroup
    s(152, &[f(Text,0,127), f(Text,0,127), f(Text,4,127), f(Text,5,127)]),
    // 39 ListGroupsResponse
    s(64, &[f(Fixed(4),1,127), f(Fixed(2),0,127), f(Struct(38),0,127).array()]),
    // 40 SaslHandshakeRequest
    s(56, &[f(Text,0,127)]),
    // 41 SaslHandshakeResponse
    s(56, &[f(Fixed(2),0,127), f(Text,0,127).array()]),
    // 42 ApiVersionsRequest
    s(88, &[f(Text,3,127), f(Text,3,127)]),
    // 43 ApiVersionsResponse.ApiVersion
    s(48, &[f(Fixed(2),0,127), f(Fixed(2),0,127), f(Fixed(2),0,127)]),
    // 44 ApiVersionsResponse.SupportedFeatureKey
    s(72, &[f(Text,3,127), f(Fixed(2),3,127), f(Fixed(2),3,127)]),
    // 45 ApiVersionsResponse.FinalizedFeatureKey
    s(72, &[f(Text,3,127), f(Fixed(2),3,127), f(Fixed(2),3,127)]),
    // 46 ApiVersionsResponse
    s(128, &[f(Fixed(2),0,127), f(Struct(43),0,127).array(), f(Fixed(4),1,127),
        f(Struct(44),3,127).array().tag(0,3,127), f(Fixed(8),3,127).tag(1,3,127),
        f(Struct(45),3,127).array().tag(2,3,127), f(Fixed(1),3,127).tag(3,3,127)]),
    // 47 CreateTopicsRequest.CreatableTopic.CreatableReplicaAssignment
    s(56, &[f(Fixed(4),0,127), f(Fixed(4),0,127).array()]),
    // 48 CreateTopicsRequest.CreatableTopic.CreatableTopicConfig
    s(88, &[f(Text,0,127), f(Text,0,127).null(0,127)]),
    // 49 CreateTopicsRequest.CreatableTopic
    s(120, &[f(Text,0,127), f(Fixed(4),0,127), f(Fixed(2),0,127), f(Struct(47),0,127).array(),
        f(Struct(48),0,127).array()]),
    // 50 CreateTopicsRequest
    s(64, &[f(Struct(49),0,127).array(), f(Fixed(4),0,127), f(Fixed(1),1,127)]),
    // 51 CreateTopicsResponse.CreatableTopicResult.CreatableTopicConfigs
    s(112, &[f(Text,5,127), f(Text,5,127).null(5,127), f(Fixed(1),5,127), f(Fixed(1),5,127),
        f(Fixed(1),5,127)]),
    // 52 CreateTopicsResponse.CreatableTopicResult
    s(160, &[f(Text,0,127), f(Fixed(16),7,127), f(Fixed(2),0,127), f(Text,1,127).null(0,127),
        f(Fixed(2),5,127).tag(0,5,127), f(Fixed(4),5,127), f(Fixed(2),5,127),
        f(Struct(51),5,127).array().null(5,127)]),
    // 53 CreateTopicsResponse
    s(56, &[f(Fixed(4),2,127), f(Struct(52),0,127).array()]),
    // 54 DeleteTopicsRequest.DeleteTopicState
    s(72, &[f(Text,6,127).null(6,127), f(Fixed(16),6,127)]),
    // 55 DeleteTopicsRequest
    s(80, &[f(Struct(54),6,127).array(), f(Text,0,5).array(), f(Fixed(4),0,127)]),
    // 56 DeleteTopicsResponse.DeletableTopicResult
    s(112, &[f(Text,0,127).null(6,127), f(Fixed(16),6,127), f(Fixed(2),0,127),
        f(Text,5,127).null(5,127)]),
    // 57 DeleteTopicsResponse
    s(56, &[f(Fixed(4),1,127), f(Struct(56),0,127).array()]),
    // 58 DeleteRecordsRequest.DeleteRecordsTopic.DeleteRecordsPartition
    s(40, &[f(Fixed(4),0,127), f(Fixed(8),0,127)]),
    // 59 DeleteRecordsRequest.DeleteRecordsTopic
    s(80, &[f(Text,0,127), f(Struct(58),0,127).array()]),
    // 60 DeleteRecordsRequest
    s(56, &[f(Struct(59),0,127).array(), f(Fixed(4),0,127)]),
    // 61 DeleteRecordsResponse.DeleteRecordsTopicResult.DeleteRecordsPartitionResult
    s(48, &[f(Fixed(4),0,127), f(Fixed(8),0,127), f(Fixed(2),0,127)]),
    // 62 DeleteRecordsResponse.DeleteRecordsTopicResult
    s(80, &[f(Text,0,127), f(Struct(61),0,127).array()]),
    // 63 DeleteRecordsResponse
    s(56, &[f(Fixed(4),0,127), f(Struct(62),0,127).array()]),
    // 64 InitProducerIdRequest
    s(96, &[f(Text,0,127).null(0,127), f(Fixed(4),0,127), f(Fixed(8),3,127), f(Fixed(2),3,127),
        f(Fixed(1),6,127), f(Fixed(1),6,127)]),
    // 65 InitProducerIdResponse
    s(72, &[f(Fixed(4),0,127), f(Fixed(2),0,127), f(Fixed(8),0,127), f(Fixed(2),0,127),
        f(Fixed(8),6,127), f(Fixed(2),6,127)]),
    // 66 OffsetForLeaderEpochRequest.OffsetForLeaderTopic.OffsetForLeaderPartition
    s(48, &[f(Fixed(4),0,127), f(Fixed(4),2,127), f(Fixed(4),0,127)]),
    // 67 OffsetForLeaderEpochRequest.OffsetForLeaderTopic
    s(80, &[f(Text,0,127), f(Struct(66),0,127).array()]),
    // 68 OffsetForLeaderEpochRequest
    s(56, &[f(Fixed(4),3,127), f(Struct(67),0,127).array()]),
    // 69 OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult.EpochEndOffset
    s(56, &[f(Fixed(2),0,127), f(Fixed(4),0,127), f(Fixed(4),1,127), f(Fixed(8),0,127)]),
    // 70 OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult
    s(80, &[f(Text,0,127), f(Struct(69),0,127).array()]),
    // 71 OffsetForLeaderEpochResponse
    s(56, &[f(Fixed(4),2,127), f(Struct(70),0,127).array()]),
    // 72 AddPartitionsToTxnRequest.AddPartitionsToTxnTransaction.AddPartitionsToTxnTopic
    s(80, &[f(Text,0,127), f(Fixed(4),0,127).array()]),
    // 73 AddPartitionsToTxnRequest.AddPartitionsToTxnTransaction
    s(104, &[f(Text,4,127), f(Fixed(8),4,127), f(Fixed(2),4,127), f(Fixed(1),4,127),
        f(Struct(72),4,127).array()]),
    // 74 AddPartitionsToTxnRequest.AddPartitionsToTxnTopic
    s(80, &[f(Text,0,127), f(Fixed(4),0,127).array()]),
    // 75 AddPartitionsToTxnRequest
    s(120, &[f(Struct(73),4,127).array(), f(Text,0,3), f(Fixed(8),0,3), f(Fixed(2),0,3),
        f(Struct(74),0,3).array()]),
    // 76 AddPartitionsToTxnResponse.AddPartitionsToTxnResult.AddPartitionsToTxnTopicResult.AddPartitionsToTxnPartitionResult
    s(40, &[f(Fixed(4),0,127), f(Fixed(2),0,127)]),
    // 77 AddPartitionsToTxnResponse.AddPartitionsToTxnResult.AddPartitionsToTxnTopicResult
    s(80, &[f(Text,0,127), f(Struct(76),0,127).array()]),
    // 78 AddPartitionsToTxnResponse.AddPartitionsToTxnResult
    s(80, &[f(Text,4,127), f(Struct(77),4,127).array()]),
    // 79 AddPartitionsToTxnResponse.AddPartitionsToTxnTopicResult.AddPartitionsToTxnPartitionResult
    s(40, &[f(Fixed(4),0,127), f(Fixed(2),0,127)]),
    // 80 AddPartitionsToTxnResponse.AddPartitionsToTxnTopicResult
    s(80, &[f(Text,0,127), f(Struct(79),0,127).array()]),
    // 81 AddPartitionsToTxnResponse
    s(88, &[f(Fixed(4),0,127), f(Fixed(2),4,127), f(Struct(78),4,127).array(),
        f(Struct(80),0,3).array()]),
    // 82 WriteTxnMarkersRequest.WritableTxnMarker.WritableTxnMarkerTopic
    s(80, &[f(Text,0,127), f(Fixed(4),0,127).array()]),
    // 83 WriteTxnMarkersRequest.WritableTxnMarker
    s(88, &[f(Fixed(8),0,127), f(Fixed(2),0,127), f(Fixed(1),0,127), f(Struct(82),0,127).array(),
        f(Fixed(4),0,127), f(Fixed(1),2,127)]),
    // 84 WriteTxnMarkersRequest
    s(48, &[f(Struct(83),0,127).array()]),
    // 85 WriteTxnMarkersResponse.WritableTxnMarkerResult.WritableTxnMarkerTopicResult.WritableTxnMarkerPartitionResult
    s(40, &[f(Fixed(4),0,127), f(Fixed(2),0,127)]),
    // 86 WriteTxnMarkersResponse.WritableTxnMarkerResult.WritableTxnMarkerTopicResult
    s(80, &[f(Text,0,127), f(Struct(85),0,127).array()]),
    // 87 WriteTxnMarkersResponse.WritableTxnMarkerResult
    s(56, &[f(Fixed(8),0,127), f(Struct(86),0,127).array()]),
    // 88 WriteTxnMarkersResponse
    s(48, &[f(Struct(87),0,127).array()]),
    // 89 DescribeConfigsRequest.DescribeConfigsResource
    s(88, &[f(Fixed(1),0,127), f(Text,0,127), f(Text,0,127).array().null(0,127)]),
    // 90 DescribeConfigsRequest
    s(64, &[f(Struct(89),0,127).array(), f(Fixed(1),1,127), f(Fixed(1),3,127)]),
    // 91 DescribeConfigsResponse.DescribeConfigsResult.DescribeConfigsResourceResult.DescribeConfigsSynonym
    s(96, &[f(Text,1,127), f(Text,1,127).null(0,127), f(Fixed(1),1,127)]),
    // 92 DescribeConfigsResponse.DescribeConfigsResult.DescribeConfigsResourceResult
    s(176, &[f(Text,0,127), f(Text,0,127).null(0,127), f(Fixed(1),0,127), f(Fixed(1),1,127),
        f(Fixed(1),0,127), f(Struct(91),1,127).array(), f(Fixed(1),3,127),
        f(Text,3,127).null(0,127)]),
    // 93 DescribeConfigsResponse.DescribeConfigsResult
    s(128, &[f(Fixed(2),0,127), f(Text,0,127).null(0,127), f(Fixed(1),0,127), f(Text,0,127),
        f(Struct(92),0,127).array()]),
    // 94 DescribeConfigsResponse
    s(56, &[f(Fixed(4),0,127), f(Struct(93),0,127).array()]),
    // 95 AlterConfigsRequest.AlterConfigsResource.AlterableConfig
    s(88, &[f(Text,0,127), f(Text,0,127).null(0,127)]),
    // 96 AlterConfigsRequest.AlterConfigsResource
    s(88, &[f(Fixed(1),0,127), f(Text,0,127), f(Struct(95),0,127).array()]),
    // 97 AlterConfigsRequest
    s(56, &[f(Struct(96),0,127).array(), f(Fixed(1),0,127)]),
    // 98 AlterConfigsResponse.AlterConfigsResourceResponse
    s(104, &[f(Fixed(2),0,127), f(Text,0,127).null(0,127), f(Fixed(1),0,127), f(Text,0,127)]),
    // 99 AlterConfigsResponse
    s(56, &[f(Fixed(4),0,127), f(Struct(98),0,127).array()]),
    // 100 DescribeLogDirsRequest.DescribableLogDirTopic
    s(80, &[f(Text,0,127), f(Fixed(4),0,127).array()]),
    // 101 DescribeLogDirsRequest
    s(48, &[f(Struct(100),0,127).array().null(0,127)]),
    // 102 DescribeLogDirsResponse.DescribeLogDirsResult.DescribeLogDirsTopic.DescribeLogDirsPartition
    s(56, &[f(Fixed(4),0,127), f(Fixed(8),0,127), f(Fixed(8),0,127), f(Fixed(1),0,127)]),
    // 103 DescribeLogDirsResponse.DescribeLogDirsResult.DescribeLogDirsTopic
    s(80, &[f(Text,0,127), f(Struct(102),0,127).array()]),
    // 104 DescribeLogDirsResponse.DescribeLogDirsResult
    s(112, &[f(Fixed(2),0,127), f(Text,0,127), f(Struct(103),0,127).array(), f(Fixed(8),4,127),
        f(Fixed(8),4,127), f(Fixed(1),5,127)]),
    // 105 DescribeLogDirsResponse
    s(64, &[f(Fixed(4),0,127), f(Fixed(2),3,127), f(Struct(104),0,127).array()]),
    // 106 SaslAuthenticateRequest
    s(56, &[f(Blob,0,127)]),
    // 107 SaslAuthenticateResponse
    s(104, &[f(Fixed(2),0,127), f(Text,0,127).null(0,127), f(Blob,0,127), f(Fixed(8),1,127)]),
    // 108 CreatePartitionsRequest.CreatePartitionsTopic.CreatePartitionsAssignment
    s(48, &[f(Fixed(4),0,127).array()]),
    // 109 CreatePartitionsRequest.CreatePartitionsTopic
    s(88, &[f(Text,0,127), f(Fixed(4),0,127), f(Struct(108),0,127).array().null(0,127)]),
    // 110 CreatePartitionsRequest
    s(64, &[f(Struct(109),0,127).array(), f(Fixed(4),0,127), f(Fixed(1),0,127)]),
    // 111 CreatePartitionsResponse.CreatePartitionsTopicResult
    s(96, &[f(Text,0,127), f(Fixed(2),0,127), f(Text,0,127).null(0,127)]),
    // 112 CreatePartitionsResponse
    s(56, &[f(Fixed(4),0,127), f(Struct(111),0,127).array()]),
    // 113 ElectLeadersRequest.TopicPartitions
    s(80, &[f(Text,0,127), f(Fixed(4),0,127).array()]),
    // 114 ElectLeadersRequest
    s(64, &[f(Fixed(1),1,127), f(Struct(113),0,127).array().null(0,127), f(Fixed(4),0,127)]),
    // 115 ElectLeadersResponse.ReplicaElectionResult.PartitionResult
    s(72, &[f(Fixed(4),0,127), f(Fixed(2),0,127), f(Text,0,127).null(0,127)]),
    // 116 ElectLeadersResponse.ReplicaElectionResult
    s(80, &[f(Text,0,127), f(Struct(115),0,127).array()]),
    // 117 ElectLeadersResponse
    s(64, &[f(Fixed(4),0,127), f(Fixed(2),1,127), f(Struct(116),0,127).array()]),
    // 118 IncrementalAlterConfigsRequest.AlterConfigsResource.AlterableConfig
    s(96, &[f(Text,0,127), f(Fixed(1),0,127), f(Text,0,127).null(0,127)]),
    // 119 IncrementalAlterConfigsRequest.AlterConfigsResource
    s(88, &[f(Fixed(1),0,127), f(Text,0,127), f(Struct(118),0,127).array()]),
    // 120 IncrementalAlterConfigsRequest
    s(56, &[f(Struct(119),0,127).array(), f(Fixed(1),0,127)]),
    // 121 IncrementalAlterConfigsResponse.AlterConfigsResourceResponse
    s(104, &[f(Fixed(2),0,127), f(Text,0,127).null(0,127), f(Fixed(1),0,127), f(Text,0,127)]),
    // 122 IncrementalAlterConfigsResponse
    s(56, &[f(Fixed(4),0,127), f(Struct(121),0,127).array()]),
    // 123 DescribeClusterRequest
    s(48, &[f(Fixed(1),0,127), f(Fixed(1),1,127), f(Fixed(1),2,127)]),
    // 124 DescribeClusterResponse.DescribeClusterBroker
    s(112, &[f(Fixed(4),0,127), f(Text,0,127), f(Fixed(4),0,127), f(Text,0,127).null(0,127),
        f(Fixed(1),2,127)]),
    // 125 DescribeClusterResponse
    s(152, &[f(Fixed(4),0,127), f(Fixed(2),0,127), f(Text,0,127).null(0,127), f(Fixed(1),1,127),
        f(Text,0,127), f(Fixed(4),0,127), f(Struct(124),0,127).array(), f(Fixed(4),0,127)]),
    // 126 DescribeProducersRequest.TopicRequest
    s(80, &[f(Text,0,127), f(Fixed(4),0,127).array()]),
    // 127 DescribeProducersRequest
    s(48, &[f(Struct(126),0,127).array()]),
    // 128 DescribeProducersResponse.TopicResponse.PartitionResponse.ProducerState
    s(72, &[f(Fixed(8),0,127), f(Fixed(4),0,127), f(Fixed(4),0,127), f(Fixed(8),0,127),
        f(Fixed(4),0,127), f(Fixed(8),0,127)]),
    // 129 DescribeProducersResponse.TopicResponse.PartitionResponse
    s(96, &[f(Fixed(4),0,127), f(Fixed(2),0,127), f(Text,0,127).null(0,127),
        f(Struct(128),0,127).array()]),
    // 130 DescribeProducersResponse.TopicResponse
    s(80, &[f(Text,0,127), f(Struct(129),0,127).array()]),
    // 131 DescribeProducersResponse
    s(56, &[f(Fixed(4),0,127), f(Struct(130),0,127).array()]),
    // 132 ListTransactionsRequest
    s(112, &[f(Text,0,127).array(), f(Fixed(8),0,127).array(), f(Fixed(8),1,127),
        f(Text,2,127).null(2,127)]),
    // 133 ListTransactionsResponse.TransactionState
    s(96, &[f(Text,0,127), f(Fixed(8),0,127), f(Text,0,127)]),
    // 134 ListTransactionsResponse
    s(88, &[f(Fixed(4),0,127), f(Fixed(2),0,127), f(Text,0,127).array(),
        f(Struct(133),0,127).array()]),
    // 135 GetTelemetrySubscriptionsRequest
    s(40, &[f(Fixed(16),0,127)]),
    // 136 GetTelemetrySubscriptionsResponse
    s(136, &[f(Fixed(4),0,127), f(Fixed(2),0,127), f(Fixed(16),0,127), f(Fixed(4),0,127),
        f(Fixed(1),0,127).array(), f(Fixed(4),0,127), f(Fixed(4),0,127), f(Fixed(1),0,127),
        f(Text,0,127).array()]),
    // 137 PushTelemetryRequest
    s(96, &[f(Fixed(16),0,127), f(Fixed(4),0,127), f(Fixed(1),0,127), f(Fixed(1),0,127),
        f(Blob,0,127)]),
    // 138 PushTelemetryResponse
    s(40, &[f(Fixed(4),0,127), f(Fixed(2),0,127)]),
    // 139 DescribeTopicPartitionsRequest.TopicRequest
    s(56, &[f(Text,0,127)]),
    // 140 DescribeTopicPartitionsRequest.Cursor
    s(64, &[f(Text,0,127), f(Fixed(4),0,127)]),
    // 141 DescribeTopicPartitionsRequest
    s(128, &[f(Struct(139),0,127).array(), f(Fixed(4),0,127), f(Struct(140),0,127).null(0,127)]),
    // 142 DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponseTopic.DescribeTopicPartitionsResponsePartition
    s(176, &[f(Fixed(2),0,127), f(Fixed(4),0,127), f(Fixed(4),0,127), f(Fixed(4),0,127),
        f(Fixed(4),0,127).array(), f(Fixed(4),0,127).array(), f(Fixed(4),0,127).array().null(0,127),
        f(Fixed(4),0,127).array().null(0,127), f(Fixed(4),0,127).array()]),
    // 143 DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponseTopic
    s(120, &[f(Fixed(2),0,127), f(Text,0,127).null(0,127), f(Fixed(16),0,127), f(Fixed(1),0,127),
        f(Struct(142),0,127).array(), f(Fixed(4),0,127)]),
    // 144 DescribeTopicPartitionsResponse.Cursor
    s(64, &[f(Text,0,127), f(Fixed(4),0,127)]),
    // 145 DescribeTopicPartitionsResponse
    s(128, &[f(Fixed(4),0,127), f(Struct(143),0,127).array(), f(Struct(144),0,127).null(0,127)]),
    // 146 ShareGroupHeartbeatRequest
    s(152, &[f(Text,0,127), f(Text,0,127), f(Fixed(4),0,127), f(Text,0,127).null(0,127),
        f(Text,0,127).array().null(0,127)]),
    // 147 ShareGroupHeartbeatResponse.Assignment.TopicPartitions
    s(64, &[f(Fixed(16),0,127), f(Fixed(4),0,127).array()]),
    // 148 ShareGroupHeartbeatResponse.Assignment
    s(48, &[f(Struct(147),0,127).array()]),
    // 149 ShareGroupHeartbeatResponse
    s(176, &[f(Fixed(4),0,127), f(Fixed(2),0,127), f(Text,0,127).null(0,127),
        f(Text,0,127).null(0,127), f(Fixed(4),0,127), f(Fixed(4),0,127),
        f(Struct(148),0,127).null(0,127)]),
    // 150 ShareFetchRequest.FetchTopic.FetchPartition.AcknowledgementBatch
    s(64, &[f(Fixed(8),0,127), f(Fixed(8),0,127), f(Fixed(1),0,127).array()]),
    // 151 ShareFetchRequest.FetchTopic.FetchPartition
    s(64, &[f(Fixed(4),0,127), f(Fixed(4),0,0), f(Struct(150),0,127).array()]),
    // 152 ShareFetchRequest.FetchTopic
    s(64, &[f(Fixed(16),0,127), f(Struct(151),0,127).array()]),
    // 153 ShareFetchRequest.ForgottenTopic
    s(64, &[f(Fixed(16),0,127), f(Fixed(4),0,127).array()]),
    // 154 ShareFetchRequest
    s(200, &[f(Text,0,127).null(0,127), f(Text,0,127).null(0,127), f(Fixed(4),0,127),
        f(Fixed(4),0,127), f(Fixed(4),0,127), f(Fixed(4),0,127), f(Fixed(4),1,127),
        f(Fixed(4),1,127), f(Fixed(1),2,127), f(Fixed(1),2,127), f(Struct(152),0,127).array(),
        f(Struct(153),0,127).array()]),
    // 155 ShareFetchResponse.ShareFetchableTopicResponse.PartitionData.LeaderIdAndEpoch
    s(40, &[f(Fixed(4),0,127), f(Fixed(4),0,127)]),
    // 156 ShareFetchResponse.ShareFetchableTopicResponse.PartitionData.AcquiredRecords
    s(48, &[f(Fixed(8),0,127), f(Fixed(8),0,127), f(Fixed(2),0,127)]),
    // 157 ShareFetchResponse.ShareFetchableTopicResponse.PartitionData
    s(216, &[f(Fixed(4),0,127), f(Fixed(2),0,127), f(Text,0,127).null(0,127), f(Fixed(2),0,127),
        f(Text,0,127).null(0,127), f(Struct(155),0,127), f(Blob,0,127).null(0,0),
        f(Struct(156),0,127).array()]),
    // 158 ShareFetchResponse.ShareFetchableTopicResponse
    s(64, &[f(Fixed(16),0,127), f(Struct(157),0,127).array()]),
    // 159 ShareFetchResponse.NodeEndpoint
    s(104, &[f(Fixed(4),0,127), f(Text,0,127), f(Fixed(4),0,127), f(Text,0,127).null(0,127)]),
    // 160 ShareFetchResponse
    s(128, &[f(Fixed(4),0,127), f(Fixed(2),0,127), f(Text,0,127).null(0,127), f(Fixed(4),1,127),
        f(Struct(158),0,127).array(), f(Struct(159),0,127).array()]),
    // 161 ShareAcknowledgeRequest.AcknowledgeTopic.AcknowledgePartition.AcknowledgementBatch
    s(64, &[f(Fixed(8),0,127), f(Fixed(8),0,127), f(Fixed(1),0,127).array()]),
    // 162 ShareAcknowledgeRequest.AcknowledgeTopic.AcknowledgePartition
    s(56, &[f(Fixed(4),0,127), f(Struct(161),0,127).array()]),
    // 163 ShareAcknowledgeRequest.AcknowledgeTopic
    s(64, &[f(Fixed(16),0,127), f(Struct(162),0,127).array()]),
    // 164 ShareAcknowledgeRequest
    s(128, &[f(Text,0,127).null(0,127), f(Text,0,127).null(0,127), f(Fixed(4),0,127),
        f(Fixed(1),2,127), f(Struct(163),0,127).array()]),
    // 165 ShareAcknowledgeResponse.ShareAcknowledgeTopicResponse.PartitionData.LeaderIdAndEpoch
    s(40, &[f(Fixed(4),0,127), f(Fixed(4),0,127)]),
    // 166 ShareAcknowledgeResponse.ShareAcknowledgeTopicResponse.PartitionData
    s(120, &[f(Fixed(4),0,127), f(Fixed(2),0,127), f(Text,0,127).null(0,127),
        f(Struct(165),0,127)]),
    // 167 ShareAcknowledgeResponse.ShareAcknowledgeTopicResponse
    s(64, &[f(Fixed(16),0,127), f(Struct(166),0,127).array()]),
    // 168 ShareAcknowledgeResponse.NodeEndpoint
    s(104, &[f(Fixed(4),0,127), f(Text,0,127), f(Fixed(4),0,127), f(Text,0,127).null(0,127)]),
    // 169 ShareAcknowledgeResponse
    s(128, &[f(Fixed(4),0,127), f(Fixed(2),0,127), f(Text,0,127).null(0,127), f(Fixed(4),2,127),
        f(Struct(167),0,127).array(), f(Struct(168),0,127).array()]),
];
